"""IDLE threads that wait for a lock of their own and BUSY ones that never rest.

usage: crowd.py [IDLE] [BUSY]       (default: 128 2)

Threads are named `idle-N` and `busy-N`; `threads` in the line is empty. The idle ones are at
rest when the line can be read. The main thread waits for standard input to close.
"""

import os
import sys

import oracle


def rest(started):
    started.release() or oracle.GATE.acquire()


def spin(started):
    started.release()
    n = 0
    while True:
        n += 1


idle = int(sys.argv[1]) if len(sys.argv) > 1 else 128
busy = int(sys.argv[2]) if len(sys.argv) > 2 else 2
oracle.wait([oracle.start(rest, name="idle-%d" % n) for n in range(idle)])
# Some still return from the call that told. A chroot may have no /proc to see it in.
for tid in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
    while int(tid) != os.getpid():
        with open("/proc/self/task/%s/stat" % tid) as stat:
            if stat.read().rpartition(")")[2].split()[0] == "S":
                break
oracle.wait([oracle.start(spin, name="busy-%d" % n) for n in range(busy)])
os.write(1, oracle.encode(oracle.message([])))
os.read(0, 1)
os._exit(0)
