"""Two callers of two callees, each with the same frame size, called in turn for SECONDS.

usage: pairs.py [SECONDS] [DEPTH]       (default: 3 0)

`first` only calls `one`, `second` only `two`. With DEPTH the turn is taken by a recursion of so
many frames, `left` and `right`, each of which calls only itself and its own callee. A sample that
mixes two instants has a step in it that is never made.
"""

import sys
import time


def one(n):
    return n + 1


def two(n):
    return n - 1


def first(n):
    return one(n)


def second(n):
    return two(n)


def left(n):
    return left(n - 1) if n else first(n)


def right(n):
    return right(n - 1) if n else second(n)


def work(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for n in range(500):
            first(n)
            second(n)


def recursion(seconds, depth):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            left(depth)
            right(depth)


seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
depth = int(sys.argv[2]) if len(sys.argv) > 2 else 0
print("ready", flush=True)
if depth:
    recursion(seconds, depth)
else:
    work(seconds)
