"""COUNT named threads at rest at different depths, or all of them at DEPTH.

usage: threads.py [COUNT] [DEPTH]       (default: 12, different)

A thread of DEPTH has that many frames of `down` above those of the threading module.
Names are in all three kinds of strings, one is longer than the kernel's 15 bytes.
"""

import os
import sys

import oracle

NAMES = (
    "worker",
    "größe",
    "работник",
    "労働者",
    "𠀀-worker",
    "a-name-longer-than-the-kernel-keeps",
    "with; semicolon",
    "",
)


def down(started, depth):
    if depth > 1:
        down(started, depth - 1)
    else:
        started.release() or oracle.GATE.acquire()


count = int(sys.argv[1]) if len(sys.argv) > 1 else 12
fixed = int(sys.argv[2]) if len(sys.argv) > 2 else None
oracle.wait(
    [
        oracle.start(
            down,
            (n * 7 % 61 + 1 if fixed is None else fixed,),
            NAMES[n % len(NAMES)] + ("-%d" % n if n >= len(NAMES) else ""),
        )
        for n in range(count)
    ]
)
os.read(0, os.write(1, oracle.line()) and 1)
os._exit(0)
