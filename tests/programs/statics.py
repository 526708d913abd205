"""What lies outside of blocks, and what a sub-interpreter has.

usage: statics.py

It tells how many types are static and how many ints are kept for good (`types`, `ints`), and keeps 20 000 objects of
one type in a sub-interpreter (`inside`), which has arenas of its own from 3.12 on (`own`).
"""

import os
import sys

import oracle

INSIDE = """
class Inside:
    __slots__ = ()
kept = [Inside() for _ in range(20000)]
"""


def subclasses(cls, seen):
    for each in type.__subclasses__(cls):
        if each not in seen:
            seen.add(each)
            subclasses(each, seen)
    return seen


def small_ints():
    number = -5
    while int(str(number)) is int(str(number)):
        number += 1
    return number + 5


try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

if sys.version_info >= (3, 13):
    inside = interpreters.create("isolated")
else:
    inside = interpreters.create()
interpreters.run_string(inside, INSIDE)
HEAP_TYPE = 1 << 9
types = sum(not each.__flags__ & HEAP_TYPE for each in subclasses(object, {object}))
told = {"types": types, "ints": small_ints(), "inside": 20000, "own": sys.version_info >= (3, 12)}
os.read(0, os.write(1, oracle.line(**told)) and 1)
