"""Works for SECONDS below frames that are no part of the stack any more, and above C code.

usage: unlinked.py [SECONDS]        (default: 2)

`leave` has returned when the destructor of what it had runs: its frame lies between the two. The
body of a class is called by C code, which leaves frames on the C stack.
"""

import sys
import time


class Guard:
    def __del__(self):
        total = 0
        for number in range(2000):
            total += number


def leave():
    guard = Guard()
    return guard is None


def make():
    class Body:
        total = 0
        for number in range(2000):
            total += number

    return Body


def main(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        leave()
        make()


main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
