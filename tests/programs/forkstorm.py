"""Forks workers that end at once, four at a time, for ever; ends with its standard input."""

import os
import threading

import oracle

kept = [{"number": n, "text": str(n)} for n in range(20000)]


def end():
    os.read(0, 1)
    os._exit(0)


threading.Thread(target=end, daemon=True).start()
os.write(1, oracle.encode(oracle.message([])))
while True:
    for _ in range(4):
        if os.fork() == 0:
            copies = [each.copy() for each in kept[:500]]
            os._exit(0)
    for _ in range(4):
        os.wait()
