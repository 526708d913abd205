"""Holds the interpreter lock for ever, inside one call of C.

usage: holder.py [COUNT]       (default: 0)

The main thread computes in C and never lets go of the lock; a worker waits for another one.
COUNT sub-interpreters, each with a lock of its own (3.12 and later), do the same in threads of
their own; the main thread then waits in `read`, without the lock of the main interpreter.

It cannot end itself and is to be killed.
"""

import os
import sys
import threading

import oracle

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 0

INSIDE = """
import os, sys
sys.path.insert(0, {path!r})
import oracle

def hold():
    os.write({report}, oracle.encode(oracle.own())) and sum(iter(int, 1))

hold()
"""


def worker(started):
    started.release() or oracle.GATE.acquire()


def enter(module, interpreter, source):
    module.run_string(interpreter, source)


def hold_in_another(threads):
    import json

    try:
        import _interpreters as module

        interpreter = module.create("isolated")
    except ImportError:
        import _xxsubinterpreters as module

        interpreter = module.create()
    outlet, report = os.pipe()
    path = os.path.dirname(os.path.abspath(__file__))
    source = INSIDE.format(path=path, report=report)
    threading.Thread(target=enter, args=(module, interpreter, source), daemon=True).start()
    with open(outlet, "rb") as file:
        threads.append(json.loads(file.readline()))


def hold():
    os.write(1, oracle.line()) and sum(iter(int, 1))


oracle.wait([oracle.start(worker, (), "worker")])
if COUNT == 0:
    hold()
inside = []
for _ in range(COUNT):
    hold_in_another(inside)
os.read(0, os.write(1, oracle.encode(oracle.message(inside))) and 1)
os._exit(0)
