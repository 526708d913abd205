"""A heap that never rests, with totals that stay.

usage: churn.py [SCALE] [grow]      (default: 1000)

Of each kind it keeps SCALE objects, small ones and such as are too large for pymalloc, among as many holes. Two threads
replace a few of them over and over, take and drop temporary ones of any size, so that chunks are split and merged, and
let the garbage collector run. With `grow` the heap grows and shrinks by megabytes all the
time. A count (`made`) is right within the few that move.
"""

import gc
import os
import random
import sys
import threading

import oracle


class Small:
    __slots__ = ("a",)


class Plain:
    def __init__(self, a):
        self.a = a


class Blob(int):
    """Above 512 bytes, unknown to the garbage collector."""

    __slots__ = ()


class Wide(tuple):
    """Above 512 bytes, known to it."""


# Of each kind and thread.
MOVING = 2
MAKE = (
    lambda dice: Small(),
    lambda dice: Plain(dice.random()),
    lambda dice: Blob(1 << dice.randrange(6000, 12000)),
    lambda dice: Wide((dice.random(),) * dice.randrange(80, 120)),
)


def churn(kept, seed, grow):
    """The last of each kind come and go."""
    dice = random.Random(seed)
    while True:
        for make, kind in zip(MAKE, kept):
            for place in range(-MOVING, 0):
                kind[place] = make(dice)
        held = [bytearray(dice.randrange(100, 9000)) for _ in range(40)]
        del held[::2]
        if grow:
            held.extend(bytearray(dice.randrange(20000, 100000)) for _ in range(60))
        del held


def end():
    os.read(0, 1)
    os._exit(0)


scale = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
grow = sys.argv[2:] == ["grow"]
sys.setswitchinterval(0.0005)
dice = random.Random(1)
rings = []
for ring in range(2):
    everything = [[make(dice) for _ in range(scale)] for make in MAKE]
    # Holes of all sizes between those that stay.
    rings.append([kind[::2] for kind in everything])
    del everything
threading.Thread(target=churn, args=(rings[1], 1, grow), daemon=True).start()
threading.Thread(target=end, daemon=True).start()
made = {
    "__main__.Small": scale,
    "__main__.Plain": scale,
    "__main__.Blob": scale,
    "__main__.Wide": scale,
}
os.write(1, oracle.encode(oracle.message([], made=made)))
# Here, in the main thread, malloc takes from `brk`.
churn(rings[0], 0, grow)
