"""Objects of known types and numbers, and the census that the interpreter itself takes.

usage: census.py [SCALE] [busy|fragmented|buffer|foreign|reserved]      (default: 1000)

It tells what it made (`made`; `least`: as many and more), what the garbage collector tracks (`tracked`, by type), and
`sys.getallocatedblocks()` (`blocks`), which is read last: after it one int is made and nothing else. With
`busy` a thread goes on making and dropping objects; with `buffer` there is one of
64 MiB; with `foreign` 64 MiB are in malloc, the buffer of an object whose type is not known; with `reserved` 64 GiB are mapped and one page of them is in use.
"""

import array
import collections
import gc
import io
import mmap
import os
import sys
import threading

import oracle


class Order:
    def __init__(self, number):
        self.number = number
        self.lines = [number, number + 1]


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a
        self.b = None


class Text(str):
    pass


class Queue(collections.deque):
    pass


class Outer:
    class Inner:
        pass


def make(scale):
    """Everything is kept alive by the list that this returns."""
    kept = []
    # Numbers beyond the cached ones, text that nobody interns, a dict of each kind.
    kept.append([Order(100000 + n) for n in range(3 * scale)])
    kept.append([Slotted("slot %d" % n) for n in range(2 * scale)])
    kept.append([Text("text %d" % n) for n in range(scale)])
    kept.append([Outer.Inner() for n in range(scale)])
    kept.append([{"key %d" % k: float(k) for k in range(20)} for n in range(scale // 10)])
    kept.append([set(range(n, n + 40)) for n in range(scale // 10)])
    kept.append([Queue(range(200)) for n in range(scale // 100)])
    # Above 512 bytes: malloc.
    kept.append([bytes(4000) for n in range(scale // 10)])
    kept.append([bytearray(3000) for n in range(scale // 10)])
    kept.append([tuple(range(n, n + 200)) for n in range(scale // 10)])
    kept.append([array.array("d", range(500)) for n in range(scale // 10)])
    kept.append([type("Made%d" % n, (), {}) for n in range(scale // 100)])
    # A mapping of its own.
    kept.append(bytes(5 << 20))
    return kept


def name(cls):
    return "%s.%s" % (cls.__module__, cls.__qualname__)


def in_thread(kept, scale):
    # Another arena of malloc.
    kept.append([bytearray(2000) for n in range(scale // 10)])
    oracle.GATE.acquire()


def end():
    os.read(0, 1)
    os._exit(0)


def churn():
    while True:
        [Slotted(n) for n in range(100)]
        {"%d" % n: [n] for n in range(100)}
        bytes(2000)


def count():
    """By type, what the garbage collector knows. Makes nothing that stays."""
    tracked.clear()
    everything = gc.get_objects()
    for each in everything:
        key = name(type(each))
        tracked[key] = tracked.get(key, 0) + 1


scale = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
mode = sys.argv[2] if len(sys.argv) > 2 else ""
kept = make(scale)
if mode == "fragmented":
    text = ["fragment %d" % n + "." * 60 for n in range(200 * scale)]
    kept.append(text[::200])
    del text
if mode == "buffer":
    kept.append(b"." * (64 << 20))
if mode == "foreign":
    # Four bytes a character, in no `str`.
    kept.append(io.StringIO("." * (16 << 20)))
if mode == "reserved":
    # MAP_NORESERVE, which `mmap` does not name.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
    reserved = mmap.mmap(-1, 64 << 30, flags=flags)
    reserved[32 << 30] = 1
size = len(kept)
for target, args in [(in_thread, (kept, scale)), (end, ())] + [(churn, ())] * (mode == "busy"):
    threading.Thread(target=target, args=args, daemon=True).start()
while len(kept) == size:
    os.sched_yield()
made = {
    "__main__.Order": 3 * scale,
    "__main__.Slotted": 2 * scale,
    "__main__.Text": scale,
    "__main__.Outer.Inner": scale,
    "__main__.Queue": scale // 100,
    "builtins.bytearray": scale // 10 + scale // 10,
    "array.array": scale // 10,
}
# What the collector does not know, and the interpreter has some of: as many and more.
least = {"builtins.str": 2 * scale, "builtins.float": 2 * scale, "builtins.int": 6 * scale}
# A dict without containers in it may become one that is not tracked.
tracked = {"": []}


def line():
    found = oracle.message([], made=made, least=least, tracked=tracked, blocks=987654321)
    return oracle.encode(found).partition(b"987654321")


# A new name may enlarge the module's dict.
blocks = out = 0
nowhere = os.open(os.devnull, os.O_WRONLY)
# Twice, because the first time makes what stays.
line(), count()
gc.collect()
gc.disable()
kept.append([[n] for n in range(50)])
count()
before, _, after = line()
# On free lists by now, so not live.
parked = [[n] for n in range(50)] + [float(n) for n in range(50)] + [{n: n} for n in range(50)]
del parked
for out in (nowhere, 1):
    # The first turn makes what the second one finds.
    blocks = sys.getallocatedblocks()
    os.write(out, before + b"%d" % blocks + after)
oracle.GATE.acquire()
