"""Signals that must not be lost: another process sends one after the other, and each one is counted.

usage: signals.py [MEGABYTES]       (default: 0)

A queued signal (SIGRTMIN) writes one byte into a pipe, from C. At a line on standard input the sender ends, and it tells
how many were sent and how many came (`sent`, `came`; it waits 20 seconds at most). So many megabytes of small objects
make a copy of its memory take a while.
"""

import os
import select
import signal
import sys
import threading
import time

import oracle


def send(stop, answer):
    """Until `stop` closes."""
    target, sent = os.getppid(), 0
    while not select.select([stop], [], [], 0.0005)[0]:
        os.kill(target, signal.SIGRTMIN)
        sent += 1
    os.write(answer, b"%d" % sent)
    os._exit(0)


def end():
    sys.stdin.readline()
    os.close(stop_writing)
    sent = int(os.read(answer_reading, 100))
    deadline = time.monotonic() + 20
    while came < sent and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(1, oracle.encode({"sent": sent, "came": came}))
    os._exit(0)


came = 0
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
signal.signal(signal.SIGRTMIN, lambda number, frame: None)
stop_reading, stop_writing = os.pipe()
answer_reading, answer_writing = os.pipe()
if os.fork() == 0:
    os.close(stop_writing)
    send(stop_reading, answer_writing)
kept = ["%d" % n + "." * 400 for n in range(2000 * int(sys.argv[1]))] if sys.argv[1:] else []
threading.Thread(target=end, daemon=True).start()
os.write(1, oracle.line())
while True:
    # They find the main thread at work or in a system call.
    select.select([reading], [], [], 0.001)
    while select.select([reading], [], [], 0)[0]:
        came += len(os.read(reading, 65536))
    sum(range(1000))
