"""Starts children in every way, each of which works for SECONDS under a name of its own.

usage: family.py [SECONDS]       (default: 0.6)

Each child works in a function of its own name: one by fork, one by each start method of
multiprocessing, one by subprocess, one below a shell, and `brief`, which works for 50 ms after its
imports (of CPU time: a machine that is busy takes longer). Says nothing; ends when all have ended.
"""

import multiprocessing
import os
import subprocess
import sys
import time

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 0.6


def work(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def by_fork():
    work(SECONDS)


def by_spawn():
    work(SECONDS)


def by_forkserver():
    work(SECONDS)


def by_os_fork():
    work(SECONDS)


def source(name, seconds):
    return (
        "import time\n"
        "def %s():\n"
        "    end = time.process_time() + %r\n"
        "    while time.process_time() < end: pass\n"
        "%s()\n" % (name, seconds, name)
    )


def main():
    # The parent's own interpreter is what a profiler meets first.
    work(SECONDS)
    methods = {"fork": by_fork, "spawn": by_spawn, "forkserver": by_forkserver}
    processes = [
        multiprocessing.get_context(method).Process(target=target)
        for method, target in methods.items()
    ]
    for process in processes:
        process.start()
    pid = os.fork()
    if pid == 0:
        by_os_fork()
        os._exit(0)
    os.waitpid(pid, 0)
    subprocess.check_call([sys.executable, "-c", source("by_subprocess", SECONDS)])
    command = '"$0" -c "$1"; true'
    shell = ["sh", "-c", command, sys.executable, source("below_a_shell", SECONDS)]
    subprocess.check_call(shell)
    subprocess.check_call([sys.executable, "-c", source("brief", 0.05)])
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
