"""Calls itself down to DEPTH and comes back, for SECONDS: its stack runs over the ends of chunks all
the time, which up to 3.13 are then mapped and given back.

usage: swings.py [SECONDS] [DEPTH]        (default: 2 300)
"""

import sys
import time


def swing(depth):
    return depth if depth == 0 else swing(depth - 1) + 1


def main(seconds, depth):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        swing(depth)


arguments = [float(argument) for argument in sys.argv[1:]] + [2.0, 300.0][len(sys.argv) - 1 :]
main(arguments[0], int(arguments[1]))
