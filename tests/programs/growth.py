"""Target of tests/growth.rs: grows at known places, in steps that standard input asks for.

usage: growth.py [ROUNDS | huge | forever]   (default: 0, for one round for each byte on standard input)

A line at the end tells how many pages each function made the kernel bring in, counted by the
kernel itself (getrusage: the faults of this thread), inside of system calls or not.
"""

import mmap
import os
import resource
import sys
import threading

import oracle

MIB = 1 << 20
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
    # Pages of a file, which are no growth.
    with open(sys.executable, "rb") as file:
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


def forever():
    """Makes the process bigger and smaller all the time."""
    threading.Thread(target=sys.stdin.buffer.read, daemon=True).start()
    os.write(1, oracle.encode(oracle.message([])))
    while threading.active_count() > 1:
        temporary()


if sys.argv[1:] == ["huge"]:
    main(0, huge)
elif sys.argv[1:] == ["forever"]:
    forever()
else:
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
