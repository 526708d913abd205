"""Target of tests/growth.rs: grows at known places, in steps that standard input asks for.

usage: growth.py [ROUNDS | huge | forever | threads | short | forked | replaced | moved]
(default: 0, for one round for each byte on standard input)

A line at the end tells how many pages each function made the kernel bring in, counted by the
kernel itself (getrusage: the faults of this thread), inside of system calls or not.
"""

import gc
import mmap
import os
import resource
import sys
import threading

import oracle

MIB = 1 << 20
INTERPRETER = [sys.executable]
if os.path.exists("/proc/self/maps"):
    with open("/proc/self/maps") as maps:
        INTERPRETER += {line.split()[-1] for line in maps if "/libpython" in line}
kept = []
cached = {}
faults = dict.fromkeys(("grow", "cache", "temporary", "fill", "load", "huge"), 0)


def grow():
    for n in range(4):
        kept.append(bytearray(MIB))
        kept[-1][:] = b"x" * MIB


def cache():
    for n in range(20000):
        cached[len(cached)] = "entry %d of the cache, long enough to matter" % n


def temporary():
    # Larger than what malloc keeps for later: it goes back to the kernel at once.
    buffer = bytearray(40 * MIB)
    return len(buffer)


def fill(zeros):
    # The kernel touches the pages, inside of read().
    buffer = mmap.mmap(-1, 4 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    os.readv(zeros, [buffer])
    kept.append(buffer)


def load():
    # Pages of a file, which are no growth: those of the interpreter, or of its library.
    with open(max(INTERPRETER, key=os.path.getsize), "rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        sum(view[:: mmap.PAGESIZE])
        view.close()


def huge():
    # One fault for two megabytes, where the kernel has such pages.
    buffer = mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(buffer, "madvise"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(buffer), mmap.PAGESIZE):
        buffer[at] = 1
    kept.append(buffer)


def minor():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def step(zeros, works):
    for work in works or (grow, cache, temporary, lambda: fill(zeros), load):
        name = "fill" if work.__name__ == "<lambda>" else work.__name__
        before = minor()
        work()
        faults[name] += minor() - before


def main(rounds, *works):
    zeros = os.open("/dev/zero", os.O_RDONLY)
    os.write(1, oracle.encode(oracle.message([])))
    if rounds:
        for _ in range(rounds):
            step(zeros, works)
    while not rounds and os.read(0, 1):
        step(zeros, works)
        os.write(1, b".\n")
    os.write(1, oracle.encode({name: count * mmap.PAGESIZE for name, count in faults.items()}))
    while os.read(0, 1):
        pass


def hold(name, mib):
    """Memory that stays, touched in a function of this name."""
    space = {}
    exec("def %s(n):\n    return bytearray(n)" % name, space)
    kept.append(space[name](mib * MIB))


def forever():
    """Grows and shrinks all the time, and looks whether its memory holds what it has written."""
    done = threading.Event()
    threading.Thread(target=lambda: (os.read(0, 1), done.set()), daemon=True).start()
    zeros = os.open("/dev/zero", os.O_RDONLY)
    os.write(1, oracle.encode(oracle.message([])))
    rounds = bad = 0
    while not done.is_set():
        temporary()
        fill(zeros)
        grow()
        bad += any(kept.pop(0)[:]) + sum(page[:] != b"x" * MIB for page in kept)
        kept.clear()
        rounds += 1
    os.write(1, oracle.encode({"rounds": rounds, "bad": bad}))


def threads():
    """A thread, a child by fork that grows for itself, and this program again by exec, which grows."""
    os.write(1, oracle.encode(oracle.message([])))
    os.read(0, 1)
    thread = threading.Thread(target=hold, args=("by_thread", 64))
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        hold("by_child", 64)
        os._exit(7)
    bad = os.waitpid(child, 0)[1] != 7 << 8
    os.write(1, oracle.encode({"bad": bad}))
    os.read(0, 1)
    os.execv(sys.executable, [sys.executable, __file__, "execed"])


def execed():
    os.write(1, oracle.encode(oracle.message([])))
    os.read(0, 1)
    hold("by_exec", 64)
    os.write(1, b".\n")
    os.read(0, 1)


def short():
    """Ends as soon as it has grown; what is freed last is gone when it does."""
    hold("stays", 32)
    bytearray(48 * MIB)
    hold("stays_too", 16)


def fork():
    """A child that ends at once. Each page of ours must fault before it is written to again."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def forked():
    """Writes to what it shared with children, and then grows."""

    def counts():
        for item in items:
            item[0]

    def collects():
        gc.collect()

    items = [[n] for n in range(200000)]
    os.write(1, oracle.encode(oracle.message([])))
    os.read(0, 1)
    before = minor()
    for _ in range(3):
        for work in counts, collects:
            fork()
            work()
    shared = (minor() - before) * mmap.PAGESIZE
    hold("by_parent", 32)
    os.write(1, b"%d\n" % shared)
    os.read(0, 1)


def by_private(content):
    buffer = mmap.mmap(-1, len(content), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    buffer.write(content)
    return buffer


def by_shared(content):
    buffer = mmap.mmap(-1, len(content))
    buffer.write(content)
    return buffer


def replaced():
    """Gives memory back and maps shared memory, which the kernel puts into the same place."""
    content = b"x" * (16 * MIB)
    os.write(1, oracle.encode(oracle.message([])))
    os.read(0, 1)
    by_private(content).close()
    kept.append(by_shared(content))
    os.write(1, b".\n")
    os.read(0, 1)


def append(items):
    for n in range(3000000):
        items.append(None if n % 8 else n)


def extend(buffer):
    piece = b"x" * 100000
    for n in range(120):
        buffer.extend(piece)


def append_for_now():
    # Larger than what malloc keeps for later, as its threshold for that grows with what is freed.
    items = []
    for n in range(5000000):
        items.append(None)


def moved():
    """Lists and a bytearray that grow by realloc, which has the kernel move them; what each holds.

    A new thread moves what another one has touched.
    """
    items, buffer = [], bytearray()
    os.write(1, oracle.encode(oracle.message([])))
    os.read(0, 1)
    append(items)
    extend(buffer)
    thread = threading.Thread(target=extend, args=(buffer,))
    thread.start()
    thread.join()
    append_for_now()
    held = sys.getsizeof(items) + sum(sys.getsizeof(item) for item in items if item)
    os.write(1, oracle.encode({"append": held, "extend": sys.getsizeof(buffer)}))
    os.read(0, 1)


if sys.argv[1:] == ["huge"]:
    main(0, huge)
elif sys.argv[1:] and not sys.argv[1].isdigit():
    modes = forever, threads, execed, short, forked, replaced, moved
    {mode.__name__: mode for mode in modes}[sys.argv[1]]()
else:
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
