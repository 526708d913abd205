"""One order, and all kinds of objects that refer to it; values, and what they look like.

usage: referrers.py

`order` is its address, `gc` are its referrers as the garbage collector knows them: address, type and how (null where
that is told by words only). `values` has the address and the repr of objects of the built-in types.
"""

import collections
import gc
import itertools
import os
import sys

import oracle


class Order:
    def __init__(self, number):
        self.number = number


class Holder:
    pass


class Slotted:
    __slots__ = ("first", "slot")


class Both(Slotted):
    pass


class Dict(dict):
    pass


class List(list):
    __slots__ = ("extra",)


class Tuple(tuple):
    pass


class Failure(Exception):
    pass


def closure(captured):
    return lambda: captured


order = Order(123456)
# How each refers to it.
hows = {}


def refer(how, by):
    hows[id(by)] = how
    return by


class Klass:
    attr = order


holder = Holder()
holder.other, holder.attr = 1, order
materialised = Holder()
materialised.attr = order
namespace = materialised.__dict__
# Its keys are no longer those of the class.
odd = Holder()
odd.attr = order
odd.__dict__[3] = order
slotted, both, extended, failure, pair = Slotted(), Both(), List([order]), Failure(), Tuple((1, order))
slotted.slot = both.slot = both.attr = extended.extra = failure.attr = pair.attr = order
kept = [
    refer("[3]", [None, 1, 2, order]),
    refer("[5000]", [None] * 5000 + [order] + [None] * 5000),
    refer("['key']", {"key": order}),
    refer("[7]", {6: None, 7: order}),
    refer("['n99999']", {"n%d" % n: None if n < 99999 else order for n in range(100000)}),
    refer("(key)", {order: 1, 2: 3}),
    refer("[0]", (order, 1)),
    refer("(member)", {1, 2, order}),
    refer("(member)", frozenset([order])),
    refer("(member)", {order} | set(range(1000))),
    refer("[150]", collections.deque([None] * 150 + [order])),
    refer("['in dict']", Dict({"in dict": order})),
    refer(".slot", slotted),
    closure(order),
    # Written in C: conservative.
    itertools.repeat(order),
]
cycle = [1]
cycle.append(cycle)
circle = {}
circle["self"] = circle
values = [
    "plain text", "it's", "both ' and \"", "\x1b[31mred\x07\x00\x7f", "d\xe9j\xe0", "\u65e5\u672c", "\U0001f40d snake",
    "\x9b2J", "\u202eevil\u2028", "\udc80", b"\x00\xff\x1b'", b"", 100000, -5000, 2**70, -(2**200), 2**30, 10**18, 1.5, -2.0, 1e22,
    1.25e-05, 0.0001, 1e16, float("inf"), float("-inf"), True, False, None, (), (1.5,), [1, [2, [3]]], [], {},
    {"a": {"b": (1, 2)}}, set(), {1}, frozenset([2]), frozenset(), collections.deque([1, 2]), cycle, circle,
    [None, True, b"x", "y", 1.5, 7], int, Order,
]  # fmt: skip
told = [[id(each), repr(each)] for each in values]


def name(cls):
    return "%s.%s" % (cls.__module__, cls.__qualname__)


def owner(each):
    # From 3.13 on values stay in their instance when that gets a dict, until a key comes that others have not. The
    # collectors of 3.13.0 and of 3.14 differ in which of the two they tell.
    return materialised if each is namespace and sys.version_info >= (3, 13) else each


def referrers():
    gc.collect()
    found = [owner(each) for each in gc.get_referrers(order)]
    return [[id(each), name(type(each)), hows.get(id(each))] for each in found]


found = referrers()
os.read(0, os.write(1, oracle.encode(oracle.message([], order=id(order), gc=found, values=told))) and 1)
os._exit(0)
