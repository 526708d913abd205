"""A shop whose orders grow by a known number, between two looks at its memory.

usage: orders.py [FIRST] [MORE] [DROP]      (default: 3000 2000 100)

It makes FIRST orders and tells. After a byte on standard input it makes MORE and then drops the DROP oldest ones, so
that no new order takes the place of an old one, and tells again. `orders` is how many there are.
"""

import os
import sys

import oracle


class Order:
    def __init__(self, number):
        self.number = number
        self.lines = [number, number + 1]


class Ledger:
    __slots__ = ("rows",)


numbers = [int(each) for each in sys.argv[1:]]
first, more, drop = numbers + [3000, 2000, 100][len(numbers) :]
# Numbers beyond the cached ones.
kept = [Order(1000000 + n) for n in range(first)]
ledger = Ledger()
while os.read(0, os.write(1, oracle.line(orders=len(kept))) and 1):
    kept.extend([Order(2000000 + n) for n in range(more)])
    del kept[:drop]
os._exit(0)
