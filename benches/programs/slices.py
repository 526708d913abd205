"""Work in slices, as `benches/peers/windows.py` asks for it: for each line on standard input so many,
and one line that tells the CPU seconds of all, the bytes that came in, and how long each slice took.
"""

import resource
import sys
import time

SLICES = 40


def serve(work, between=lambda: None):
    """`between` clears away what a line's slices have left."""
    print("ready", flush=True)
    for _ in sys.stdin:
        took = []
        before = resource.getrusage(resource.RUSAGE_THREAD)
        cpu = time.thread_time()
        for _ in range(SLICES):
            start = time.perf_counter()
            work()
            took.append(time.perf_counter() - start)
        cpu = time.thread_time() - cpu
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before.ru_minflt
        print(cpu, faults * resource.getpagesize(), *took, flush=True)
        between()
