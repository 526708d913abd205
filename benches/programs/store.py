"""A process of a given size, full of objects as a web shop has them.

usage: store.py [MEBIBYTES]      (default: 1024)

It makes objects until so much of it is resident, writes a line, and ends when its standard input closes.
"""

import os
import sys

PAGE = os.sysconf("SC_PAGE_SIZE")


class Order:
    def __init__(self, number):
        self.number = number
        self.name = "order %d" % number
        self.lines = [(number, number * 0.5), (number + 1, number * 0.25)]
        self.paid = {"at": number * 2.0, "by": "card %d" % (number % 1000)}
        self.note = b"x" * (number % 300)


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


wanted = (int(sys.argv[1]) if len(sys.argv) > 1 else 1024) << 20
kept = []
while resident() < wanted:
    first = 1000000 + len(kept)
    kept.extend([Order(first + n) for n in range(10000)])
os.write(1, b"%d\n" % len(kept))
os.read(0, 1)
os._exit(0)
