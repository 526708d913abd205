"""Objects of two types that change places in memory all the time.

usage: swaps.py [COUNT]      (default: 20000)

There are always COUNT of each (`made`), but for the two that are being replaced: one of each is dropped, and each is made anew
where the other one was.
"""

import gc
import os
import random
import sys
import threading

import oracle


class Left:
    __slots__ = ("a",)


class Right:
    __slots__ = ("a",)


def end():
    os.read(0, 1)
    os._exit(0)


def swap(left, right):
    place = random.Random(1).randrange
    while True:
        one, other = place(count), place(count)
        left[one] = right[other] = None
        left[one] = Left()
        right[other] = Right()


count = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
gc.disable()
left, right = [Left() for _ in range(count)], [Right() for _ in range(count)]
threading.Thread(target=end, daemon=True).start()
made = {"__main__.Left": count, "__main__.Right": count}
os.write(1, oracle.encode(oracle.message([], made=made)))
swap(left, right)
