"""A pre-forking server: a parent that only waits, and workers that it forked and replaces.

usage: prefork.py [WORKERS]       (default: 3)

Each worker works in `serve` for half a second of CPU time. The first one that ends is
replaced by another, so that WORKERS + 1 processes serve. Says nothing; ends when all have.
"""

import os
import sys
import time

WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 3


def serve():
    # CPU time: a machine that is busy takes longer, and the work is the same.
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass


def fork():
    if os.fork() == 0:
        serve()
        os._exit(0)


def parent_waits():
    os.wait()
    fork()
    for _ in range(WORKERS):
        os.wait()


for _ in range(WORKERS):
    fork()
parent_waits()
