"""Makes functions, calls them and frees them, all the time, until standard input closes.

usage: reuse.py

Code objects are freed and their addresses used again at once, by other code. The name of
every function tells where it belongs: `job_123` is in the file `made_123.py`, begins on
line 123 % 97 + 1 and calls `aid_123`, of the same file, from the line after that; `aid_123`
is on the line after that and spins two lines below. A sample in which these numbers differ
shows code that was not there. Names are in strings of 1, 2 and 4 bytes a character.

"shapes" in the line lists the pairs [prefix of the function, prefix of its helper].
"""

import os
import sys
import threading
import time

import oracle

SHAPES = (("job_", "aid_"), ("größe_", "hilfe_"), ("работа_", "помощь_"), ("𠀀job_", "𠀀aid_"))

SOURCE = """def {job}{n}(spin):
    return {aid}{n}(spin)
def {aid}{n}(spin):
    for _ in range(spin):
        pass
"""


def make(n):
    job, aid = SHAPES[n % len(SHAPES)]
    source = "\n" * (n % 97) + SOURCE.format(job=job, aid=aid, n=n)
    namespace = {}
    exec(compile(source, "made_%d.py" % n, "exec"), namespace)
    return namespace, namespace["%s%d" % (job, n)]


def turn(n, spin):
    namespace, job = make(n)
    job(spin)
    namespace.clear()


def stop():
    while os.read(0, 4096):
        pass
    os._exit(0)


def calibrate(seconds):
    """How far `aid` must count for so many seconds."""
    spin = 1000
    while True:
        begin = time.thread_time()
        turn(0, spin)
        took = time.thread_time() - begin
        if took > seconds / 4:
            return int(spin * seconds / took)
        spin *= 2


def main():
    threading.Thread(target=stop, name="stdin", daemon=True).start()
    # Short enough that at 100 Hz nearly every sample sees another function, long enough
    # that nearly every sample is inside one.
    spin = calibrate(0.002)
    os.write(1, oracle.encode(oracle.message([], shapes=SHAPES)))
    n = 0
    while True:
        n += 1
        turn(n, spin)


main()
