"""COUNT sub-interpreters, each with its code at rest in two threads.

usage: subinterp.py [COUNT] [DEPTH]       (default: 3 20)

The first thread of a sub-interpreter belongs to the main interpreter too: it has a thread
state and a stack in both. The second one was started inside. From 3.12 on every
sub-interpreter has a lock (GIL) of its own, before that they share one ("own_gil" in the
line).
"""

import json
import os
import sys
import threading

import oracle

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 3
DEPTH = int(sys.argv[2]) if len(sys.argv) > 2 else 20

INSIDE = """
import os, sys, threading
sys.path.insert(0, {path!r})
import oracle

def внутри(depth):
    if depth > 1:
        внутри(depth - 1)
    else:
        os.read({block}, os.write({report}, oracle.encode(oracle.own())) and 1)

def second(depth):
    if depth > 1:
        second(depth - 1)
    else:
        os.read({block}, os.write({report}, oracle.encode(oracle.own())) and 1)

# No daemon: an isolated interpreter refuses to start one.
threading.Thread(target=second, args=({depth} + 1,), name="second").start()
внутри({depth})
"""


def isolated():
    """The module for interpreters, a new one of which has its own lock, and whether it has."""
    try:
        import _interpreters

        return _interpreters, lambda: _interpreters.create("isolated"), True
    except ImportError:
        import _xxsubinterpreters

    if sys.version_info >= (3, 12):
        return _xxsubinterpreters, _xxsubinterpreters.create, True
    if sys.version_info >= (3, 9):
        # An isolated one starts no threads before 3.12.
        return _xxsubinterpreters, lambda: _xxsubinterpreters.create(isolated=False), False
    return _xxsubinterpreters, _xxsubinterpreters.create, False


def enter(module, interpreter, source, entered):
    entered.append(oracle.own()) or module.run_string(interpreter, source)


def read_line(file):
    return json.loads(file.readline())


def main():
    module, create, own_gil = isolated()
    # Nothing is ever written into it: the threads inside wait for it until the end.
    block, _keep = os.pipe()
    threads = []
    for n in range(COUNT):
        interpreter = create()
        outlet, report = os.pipe()
        source = INSIDE.format(
            path=os.path.dirname(os.path.abspath(__file__)),
            block=block,
            report=report,
            depth=DEPTH + n,
        )
        threading.Thread(
            target=enter,
            args=(module, interpreter, source, threads),
            name="sub-%d" % n,
            daemon=True,
        ).start()
        # One after the other: creating and importing at the same time is another test.
        with open(outlet, "rb") as file:
            threads.append(read_line(file))
            threads.append(read_line(file))
    os.read(0, os.write(1, encode(threads, own_gil)) and 1)
    os._exit(0)


def encode(threads, own_gil):
    threads.append(oracle.own(sys._getframe(1)))
    return oracle.encode(oracle.message(threads, own_gil=own_gil))


main()
