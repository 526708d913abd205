"""Sleeps in one function after another, with a short burst of work between them.

usage: bursts.py

Each sleep is in a function of its own, `sleep_0` to `sleep_7` in turn, some 60 ms long; the burst
before it takes far less than a tick of the kernel's clock. The last line, when standard input has
closed, is a list of [number of the function, start and end of its sleep, by `time.time_ns`].
"""

import os
import threading
import time

import oracle

done = threading.Event()


def make(number):
    space = {"time": time}
    source = "def sleep_%d():\n    time.sleep(0.06)" % number
    exec(source, space)
    return space["sleep_%d" % number]


def stop():
    while os.read(0, 4096):
        pass
    done.set()


def main():
    turns = [make(number) for number in range(8)]
    slept = []
    while not done.is_set():
        for number, turn in enumerate(turns):
            start = time.time_ns()
            turn()
            slept.append([number, start, time.time_ns()])
    return slept


threading.Thread(target=stop, daemon=True).start()
os.write(1, oracle.encode(oracle.message([])))
os.write(1, oracle.encode(main()))
