"""Runs under trace functions of its own, in this thread and in another, most of the time.

usage: tracing.py [SECONDS]       (default: 1)
"""

import sys
import threading
import time


def count(event):
    return len(event)


def trace(frame, event, arg):
    count(event)
    return local


def local(frame, event, arg):
    return local if count(event) else None


class Watcher:
    def __call__(self, frame, event, arg):
        return self.watch(event)

    def watch(self, event):
        return self if count(event) else None

    def trace(self, frame, event, arg):
        return self.watch(event)


def outer(number):
    return [inner(n) for n in range(number)]


def inner(number):
    return number + 1


def work(function):
    outer(5)
    sys.settrace(function)
    outer(20)
    sys.settrace(None)
    outer(5)


def rounds(seconds):
    watcher = Watcher()
    end = time.monotonic() + seconds
    while True:
        for function in (trace, watcher, watcher.trace):
            work(function)
        if time.monotonic() > end:
            return


seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1
other = threading.Thread(target=rounds, args=(seconds,))
other.start()
rounds(seconds)
other.join()
