"""DEPTH calls, each made by C: the stack is split into as many evaluation loops.

usage: callbacks.py [DEPTH] [sorted|map|reduce|mixed]       (default: 1000 sorted)

3.12 allows 1 500 nested entries into C whatever the recursion limit is, and each of
these takes two or three: 450 are made there. The line says how many there are ("depth").
"""

import functools
import os
import sys
import threading

import oracle


def by_sorted(depth, started):
    return sorted([depth], key=lambda n: step(by_sorted, n, started))


def by_map(depth, started):
    return list(map(lambda n: step(by_map, n, started), [depth]))


def by_reduce(depth, started):
    return functools.reduce(lambda _, n: step(by_reduce, n, started), [depth], None)


def mixed(depth, started):
    return (by_sorted, by_map, by_reduce)[depth % 3](depth, started)


def step(kind, depth, started):
    if depth > 1:
        kind(depth - 1, started)
    else:
        started.release() or oracle.GATE.acquire()


def begin(started, kind, depth):
    kind(depth, started)


KINDS = {"sorted": by_sorted, "map": by_map, "reduce": by_reduce, "mixed": mixed}
depth = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
kind = KINDS[sys.argv[2] if len(sys.argv) > 2 else "sorted"]
if sys.version_info[:2] == (3, 12):
    depth = min(depth, 450)
sys.setrecursionlimit(depth * 5 + 1000)
threading.stack_size(max(1 << 20, depth * 32768))
oracle.wait([oracle.start(begin, (kind, depth), "callbacks")])
os.read(0, os.write(1, oracle.line(depth=depth)) and 1)
os._exit(0)
