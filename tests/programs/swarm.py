"""Starts threads and ends them, all the time, until standard input closes.

usage: swarm.py

At most four live at a time, each some 20 ms. Thread `swarm-N` works in a function named
`member_N` that is compiled for it, so that a stack under another thread's name shows.
"""

import os
import threading
import time

import oracle

SOURCE = """def member_{n}(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.002)
"""


def stop():
    while os.read(0, 4096):
        pass
    os._exit(0)


def start(n):
    namespace = {"time": time}
    exec(compile(SOURCE.format(n=n), "swarm_%d.py" % n, "exec"), namespace)
    target = namespace["member_%d" % n]
    thread = threading.Thread(target=target, args=(0.02,), name="swarm-%d" % n, daemon=True)
    thread.start()
    return thread


threading.Thread(target=stop, name="stdin", daemon=True).start()
os.write(1, oracle.encode(oracle.message([])))
threads = []
n = 0
while True:
    n += 1
    threads.append(start(n))
    if len(threads) >= 4:
        threads.pop(0).join()
