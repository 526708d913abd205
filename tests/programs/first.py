"""Target of tests/growth.rs: grows before it does anything else, and ends.

usage: first.py
"""

import sys


def first():
    return bytearray(64 << 20)


kept = first()
print(len(kept), file=sys.stdout)
