"""Cycles that nobody can reach any more, beside objects that look like them and are held.

usage: garbage.py [SCALE]      (default: 50)

Of each kind it makes SCALE cycles and drops them. `Held` are alive (`held` tells how many): each by something else, a
frame, a cell, a callback, C. On a line of standard input it lets the collector run and writes what that returned (`found`) and what
it found, by type (`types`).
"""

import functools
import gc
import itertools
import os
import sys
import threading
import weakref

import oracle


class Node:
    def __init__(self):
        self.me = self


class Slotted:
    __slots__ = ("me", "__weakref__")

    def __init__(self):
        self.me = self


class Watched:
    def __init__(self, log):
        self.me = self
        self.log = log


class Keyed(dict):
    pass


class Failure(Exception):
    pass


class Held:
    def __init__(self):
        self.me = self


def counter():
    def count():
        return count

    return count


def walk():
    me = yield
    while True:
        yield me


def started():
    generator = walk()
    next(generator)
    generator.send(generator)
    return generator


def failed():
    try:
        raise Failure
    except Failure as error:
        kept = error
    return kept.__traceback__.tb_frame


async def wait(me):
    await me


def coroutine():
    box = []
    box.append(wait(box))


def make(scale):
    """What is left of it is garbage."""
    for n in range(scale):
        Node()
        Slotted()
        Keyed()["me"] = Node()
        node = Node()
        node.__dict__["extra"] = node.__dict__
        one, two = [], {}
        one.append(two)
        two["one"] = (one, [one])
        one.append(one)
        queue = {frozenset([n]): set()}
        queue["self"] = queue
        counter()
        started()
        failed()
        coroutine()
        method = Node()
        method.call = method.__init__
        partial = []
        partial.append(functools.partial(len, partial))
        chain = []
        chain.append(itertools.chain(chain, [chain]))
        chain.append(iter(chain))
        views = {}
        views["items"] = views.items()
        watched = Watched(weakref.WeakValueDictionary())
        watched.log["me"] = watched
        weakref.finalize(watched, len, ())
        watched.ref = weakref.ref(watched, watched.log.get)
        klass = type("Made", (Node,), {"method": lambda self: klass, "__slots__": ("slot",)})
        klass().slot = klass
        klass().method()

        class Meta(type):
            @property
            def own(cls):
                return super().__mro__

            @staticmethod
            def plain():
                return Meta

        Meta("Of", (), {"__init__": lambda self: None}).own


def hold(scale):
    """What looks like garbage and is not."""
    return (
        [Held() for _ in range(scale)],
        map(len, [Held()]),
        functools.partial(len, Held()),
        itertools.chain([Held()]),
        (Held() for _ in itertools.count()),
        type("Kept", (), {"of": Held()}),
    )


class Iterable:
    """Its iterator is held by a variable of C alone while it is gone through."""

    def __iter__(self):
        inside = Held()
        held.acquire()
        yield inside
        wait_for_ever.acquire()


def in_thread():
    local = threading.local()
    local.of = Held()
    kept = Held()
    list(Iterable())
    return kept


def name(cls):
    return "%s.%s" % (cls.__module__, cls.__qualname__)


gc.disable()
held, wait_for_ever = threading.Lock(), threading.Lock()
held.acquire()
wait_for_ever.acquire()
scale = int(sys.argv[1]) if len(sys.argv) > 1 else 50
kept = hold(scale)
taken = next(kept[4])
called = Node()
reference = weakref.ref(called, functools.partial(int, Held()))
in_c = itertools.cycle([Held()])
next(in_c)
threading.Thread(target=in_thread, daemon=True).start()
while held.locked() is False:
    os.sched_yield()
make(scale)
alive = sum(type(each) is Held for each in gc.get_objects())
os.read(0, os.write(1, oracle.line(held=alive)) and 1)
# What is found is kept in `gc.garbage`, to be counted.
gc.set_debug(gc.DEBUG_SAVEALL)
found = gc.collect()
types = {}
for each in gc.garbage:
    types[name(type(each))] = types.get(name(type(each)), 0) + 1
os.read(0, os.write(1, oracle.encode({"found": found, "types": types})) and 1)
os._exit(0)
