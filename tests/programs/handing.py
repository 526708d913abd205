"""Generators that hand on to generators, resumed all the time.

usage: handing.py [SECONDS] [DEPTH]        (default: 2 30)

The stack is deeper and less deep every few hundred nanoseconds, in memory outside of the data
stack. It tells the time that it took, and nothing before.
"""

import sys
import time

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
DEPTH = int(sys.argv[2]) if len(sys.argv) > 2 else 30


def walk(depth):
    yield depth
    yield depth
    if depth > 1:
        yield from walk(depth - 1)


def one(value):
    return value + 1


def total():
    return sum([one(value) for value in walk(DEPTH)])


begin = time.time()
while time.time() < begin + SECONDS:
    total()
sys.stderr.write("%.1f s\n" % (time.time() - begin))
