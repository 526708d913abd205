"""Targets of tests/exact.rs. They work until standard input closes and tell what became of it.

usage: exact.py sum | calls | inward | half | family | signals NAME... | late NAME... | crowd | exec
"""

import ctypes
import os
import random
import select
import signal
import sys
import threading
import time

import oracle

done = threading.Event()
told = threading.Event()


def stop():
    while os.read(0, 4096):
        told.set()
    done.set()


def spin(seconds):
    """So much CPU time of this thread, outside of the kernel."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


def copy(seconds, zeros):
    """So much CPU time, nearly all of it inside of read()."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        os.readv(zeros, [BUFFER])


BUFFER = bytearray(1 << 20)


def sums():
    """A checksum that one lost or doubled step would change."""
    count = value = 0
    while not done.is_set():
        for _ in range(1000):
            count += 1
            value = (value * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return {"count": count, "value": value}


def calls():
    """System calls that return EINTR after a signal, whatever SA_RESTART says."""
    libc = ctypes.CDLL(None, use_errno=True)
    poller = select.epoll()
    epoll = poller.fileno()
    semaphore = libc.semget(0, 1, 0o600)
    libc.semctl(semaphore, 0, 16, 0)
    down = (ctypes.c_short * 3)(0, -1, 0)
    wait = (ctypes.c_long * 2)(0, 3000000)
    events = ctypes.create_string_buffer(64)
    made = failed = 0
    while not done.is_set():
        for call, expected in (
            (lambda: libc.epoll_wait(epoll, events, 4, 3), 0),
            (lambda: libc.semtimedop(semaphore, down, ctypes.c_long(1), wait), -11),
            (lambda: libc.poll(None, 0, 3), 0),
            (lambda: libc.usleep(3000), 0),
        ):
            result = call()
            if result == -1:
                result = -ctypes.get_errno()
            made += 1
            failed += result != expected
            spin(0.0005)
    libc.semctl(semaphore, 0, 0)
    return {"made": made, "failed": failed}


class Rank:
    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        return self.value < other.value


def inward():
    """Calls of Python code by C code, one after the other."""
    ranks = [Rank(random.random()) for _ in range(100)]
    made = 0
    while not done.is_set():
        made += len(list(map(abs_of, range(300)))) + len(sorted(ranks))
    return {"made": made}


def abs_of(value):
    return -value if value < 0 else value


def half():
    """Half of the time in read(), and how long that really was."""
    zeros = os.open("/dev/zero", os.O_RDONLY)
    took = {"spin": 0, "copy": 0}
    while not done.is_set():
        # Never in step with a clock.
        length = random.uniform(0.002, 0.02)
        start = time.thread_time_ns()
        spin(length)
        middle = time.thread_time_ns()
        copy(length, zeros)
        took["spin"] += middle - start
        took["copy"] += time.thread_time_ns() - middle
    return {name: {"cpu_ns": ns} for name, ns in took.items()}


def family():
    """Threads and children that come and go, and a thread that waits for each."""
    threads = children = bad = 0
    while not done.is_set():
        thread = threading.Thread(target=spin, args=(0.02,))
        thread.start()
        child = os.fork()
        if child == 0:
            spin(0.01)
            os._exit(7)
        bad += os.waitpid(child, 0)[1] != 7 << 8
        thread.join()
        threads += 1
        children += 1
    return {"threads": threads, "children": children, "bad": bad}


def signals(*names):
    seen = []
    for name in names:
        signal.signal(getattr(signal, name), lambda number, _: seen.append(number))
    while not done.is_set():
        spin(0.001)
    return {"seen": seen}


def late(*names):
    """Begins to catch signals when a byte comes in."""
    while not told.is_set():
        spin(0.001)
    return signals(*names)


def crowd():
    """Many threads that all make the process bigger, a little each."""
    kept = []

    def grow():
        while not done.is_set():
            kept.append(bytearray(1 << 20))
            done.wait(0.2)

    threads = [threading.Thread(target=grow) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"mib": len(kept)}


def execute():
    """Becomes another program when a byte comes in: this one, adding up."""
    while not told.is_set():
        spin(0.001)
    os.execv(sys.executable, [sys.executable, __file__, "sum"])


threading.Thread(target=stop, name="stdin", daemon=True).start()
os.write(1, oracle.encode(oracle.message([])))
answer = {
    "sum": sums,
    "calls": calls,
    "inward": inward,
    "half": half,
    "family": family,
    "signals": signals,
    "late": late,
    "crowd": crowd,
    "exec": execute,
}
os.write(1, oracle.encode(answer[sys.argv[1]](*sys.argv[2:])))
