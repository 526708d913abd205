"""DEPTH frames of plain recursion in a thread, with frames of several sizes.

usage: deep.py [DEPTH]       (default: 5000)

In a thread because 3.8 to 3.10 use C stack for every call, and only a thread's stack can
be made large enough from inside.
"""

import os
import sys
import threading

import oracle


def slim(depth, started):
    return descend(depth - 1, started)


def fat(depth, started):
    a = b = c = d = e = f = g = h = i = j = k = l = depth
    return descend(a - 1, started)


def größe(depth, started):
    größer = depth - 1
    return descend(größer, started)


def глубина(depth, started):
    return descend(
        depth - 1,
        started,
    )


def 深𠀀(depth, started):
    return descend(depth - 1, started)


KINDS = (slim, fat, größe, глубина, 深𠀀)


def descend(depth, started):
    if depth > 1:
        return KINDS[depth % len(KINDS)](depth - 1, started)
    started.release() or oracle.GATE.acquire()


def begin(started, depth):
    descend(depth, started)


depth = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
sys.setrecursionlimit(depth + 1000)
threading.stack_size(max(1 << 20, depth * 16384))
oracle.wait([oracle.start(begin, (depth,), "deep")])
os.read(0, os.write(1, oracle.line()) and 1)
os._exit(0)
