"""DEPTH generators, each running inside the one before.

usage: generators.py [DEPTH] [next|for|from]       (default: 1000 next)

next: every generator is resumed by C (`next()`), so that from 3.11 on each one is an
      entry of the evaluation loop of its own, with an entry frame on the C stack.
for:  resumed by the loop of its caller, which 3.12 and later do without C.
from: delegated to by `yield from`.

3.12 allows 1 500 nested entries into C whatever the recursion limit is, and `next` takes
two of them: it is made 700 deep there. The line says how deep it is ("depth").
"""

import os
import sys
import threading

import oracle


def by_next(depth, started):
    if depth > 1:
        yield next(by_next(depth - 1, started))
    else:
        yield started.release() or oracle.GATE.acquire()


def by_for(depth, started):
    if depth > 1:
        for value in by_for(depth - 1, started):
            yield value
    else:
        yield started.release() or oracle.GATE.acquire()


def by_from(depth, started):
    if depth > 1:
        yield from by_from(depth - 1, started)
    else:
        yield started.release() or oracle.GATE.acquire()


def begin(started, kind, depth):
    for _ in kind(depth, started):
        pass


depth = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
kind = {"next": by_next, "for": by_for, "from": by_from}[sys.argv[2] if len(sys.argv) > 2 else "next"]
if sys.version_info[:2] == (3, 12) and kind is by_next:
    depth = min(depth, 700)
sys.setrecursionlimit(depth * 3 + 1000)
threading.stack_size(max(1 << 20, depth * 16384))
oracle.wait([oracle.start(begin, (kind, depth), "generators")])
os.read(0, os.write(1, oracle.line(depth=depth)) and 1)
os._exit(0)
