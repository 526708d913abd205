"""Threads that wait in different system calls, named after them.

usage: sleepers.py

When the line comes every thread is on its line, but perhaps not in its system call yet.
"""

import os
import select
import socket
import time

import oracle

OUTLET, INLET = os.pipe()


def by_sleep(started):
    started.release() or time.sleep(1000000)


def by_lock(started):
    started.release() or oracle.GATE.acquire()


def by_read(started):
    started.release() or os.read(OUTLET, 1)


def by_poll(started):
    poll = select.poll()
    poll.register(OUTLET, select.POLLIN)
    started.release() or poll.poll()


def by_select(started):
    started.release() or select.select([OUTLET], [], [])


def by_epoll(started):
    epoll = select.epoll()
    epoll.register(OUTLET, select.EPOLLIN)
    started.release() or epoll.poll()


def by_accept(started):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0onlooker-%d-%d" % (os.getpid(), time.time_ns()))
        server.listen()
        started.release() or server.accept()


WAYS = (by_sleep, by_lock, by_read, by_poll, by_select, by_epoll, by_accept)
oracle.wait([oracle.start(way, (), way.__name__[3:]) for way in WAYS])
os.read(0, os.write(1, oracle.line()) and 1)
os._exit(0)
