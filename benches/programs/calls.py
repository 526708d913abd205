"""Calls all the time, on top of DEPTH plain frames, in one thread, for ten minutes or until it is ended.

usage: calls.py [DEPTH] [turns TURNS]      (default: 20)

With `turns` it does so much work in each slice that it is asked for (`slices.py`).
"""

import signal
import sys

import slices


def one(n):
    return n + 1


def two(n):
    return one(n) + one(n)


def three(n):
    return two(n) + one(n)


def work(turns):
    n = 0
    while n != turns:
        three(n)
        n += 1


def deep(depth, turns):
    if depth > 1:
        return deep(depth - 1, turns)
    return work(turns)


depth = int(sys.argv[1]) if len(sys.argv) > 1 else 20
turns = int(sys.argv[3]) if "turns" in sys.argv[2:3] else -1
sys.setrecursionlimit(depth + 1000)
if turns < 0:
    signal.alarm(600)
    print("ready", flush=True)
    deep(depth, turns)
else:
    slices.serve(lambda: deep(depth, turns))
