"""Forks a worker that then does one thing to a heap that it shares.

usage: forked.py [PHASE] [COUNT]        (default: idle 100000)

PHASE: idle; collect (gc.collect()); read (an attribute of every object); frozen (gc.freeze()
before the fork, then gc.collect()); write (gc.freeze() before the fork, then an attribute of every tenth object with a dict); hold (a reference to every name); new (objects of its own);
parent (the parent reads an attribute of every object, the worker rests); both (the parent too, the
worker collects); huge (the kernel makes a huge page of the parent's objects, `moved` tells whether).
The parent writes the line when the worker is done. Each byte on standard input
forks one more worker, and there is another line.
"""

import ctypes
import gc
import os
import sys

import oracle

PHASE = sys.argv[1] if len(sys.argv) > 1 else "idle"
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 100000


PR_SET_THP_DISABLE = 41
MADV_COLLAPSE = 25
HUGE = 2 << 20
LIBC = ctypes.CDLL(None)
# khugepaged unshares pages when it likes; 3.15 asks for huge pages.
LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def collapse(addr):
    """Has the huge page at the address made, where the kernel can (6.1)."""
    LIBC.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)
    start = ctypes.c_void_p(addr // HUGE * HUGE)
    return LIBC.madvise(start, ctypes.c_size_t(HUGE), MADV_COLLAPSE) == 0


class Thing(object):
    __slots__ = ("name", "link")

    def __init__(self, name, link):
        self.name = name
        self.link = link


class Record(object):
    def __init__(self, number):
        self.number = number
        self.name = "record %d" % number


def read(things):
    for thing in things:
        thing.name


things = []
for n in range(COUNT):
    things.append(Thing("thing %d" % n, things))
records = [Record(n) for n in range(COUNT)] if PHASE == "write" else []
gc.collect()
gc.disable()
if PHASE in ("frozen", "write"):
    gc.freeze()
done, tell = os.pipe()
# Open in the parent alone: workers end with it.
ended, alive = os.pipe()


def fork():
    worker = os.fork()
    if worker == 0:
        os.close(alive)
        if PHASE in ("collect", "frozen", "both"):
            gc.collect()
        elif PHASE == "read":
            read(things)
        elif PHASE == "write":
            for record in records[::10]:
                record.number = -1
        elif PHASE == "hold":
            more = [thing.name for thing in things]
        elif PHASE == "new":
            more = [bytearray(4000) for _ in range(2000)]
        os.write(tell, b"x")
        os.read(ended, 1)
        os._exit(0)
    os.read(done, 1)
    return worker


worker = fork()
if PHASE in ("parent", "both"):
    read(things)
moved = PHASE == "huge" and collapse(id(things[COUNT // 2]))
while os.read(0, os.write(1, oracle.line(worker=worker, moved=moved)) and 1):
    worker = fork()
os._exit(0)
