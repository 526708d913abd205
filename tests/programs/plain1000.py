"""Exactly DEPTH plain frames above <module> in the main thread, and in THREADS others.

usage: plain1000.py [DEPTH] [THREADS]       (default: 1000 0)

The stack of the read budgets: one function, called by itself, nothing else.
"""

import os
import sys
import threading

import oracle


def plain(depth):
    if depth > 1:
        plain(depth - 1)
    else:
        os.read(0, os.write(1, oracle.line()) and 1)


def plain_thread(depth, started):
    if depth > 1:
        plain_thread(depth - 1, started)
    else:
        started.release() or oracle.GATE.acquire()


def begin(started, depth):
    plain_thread(depth, started)


depth = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
count = int(sys.argv[2]) if len(sys.argv) > 2 else 0
sys.setrecursionlimit(depth + 1000)
# 3.8 to 3.10 use C stack for every call.
threading.stack_size(max(1 << 20, depth * 4096))
oracle.wait([oracle.start(begin, (depth,), "plain-%d" % n) for n in range(count)])
plain(depth)
os._exit(0)
