"""A heap of a known size, at rest until standard input closes.

usage: heap.py objects COUNT | resident MIB | traced COUNT

objects: so many, of 68 bytes on average; resident: so much in blocks of 4 000 bytes; traced: so many
blocks that tracemalloc knows.
"""

import gc
import json
import os
import sys
import tracemalloc

WHAT, SIZE = sys.argv[1], int(sys.argv[2])


class Pair(object):
    __slots__ = ("left", "right")

    def __init__(self, left, right):
        self.left = left
        self.right = right


gc.disable()
if WHAT == "objects":
    keep = [Pair(None, None) for _ in range(SIZE // 4)]
    keep += ["text %d" % n for n in range(SIZE // 4)]
    keep += [(n, keep) for n in range(-10, -10 - SIZE // 4, -1)]
elif WHAT == "resident":
    keep = [bytes(4000) for _ in range(SIZE * 1024 * 1024 // 4032)]
else:
    tracemalloc.start()
    keep = [object() for _ in range(SIZE)]
line = {
    "ready": True,
    "program": "heap.py",
    "python": ".".join(map(str, sys.version_info[:3])),
    "pid": os.getpid(),
    "threads": [],
}
os.write(1, (json.dumps(line) + "\n").encode())
os.read(0, 1)
os._exit(0)
