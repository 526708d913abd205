"""A launcher that becomes another program: PYTHON PROGRAM ARGS... by execv.

usage: exec_launcher.py [--after SECONDS] PYTHON PROGRAM [ARGS...]

Says that it is ready, waits for one byte (with --after: that long instead, and says
nothing), then calls execv. What it starts says so with a line of its own.
"""

import os
import sys
import time

import oracle


def launch(arguments):
    os.execv(arguments[0], arguments)


rest = sys.argv[1:]
if rest[0] == "--after":
    time.sleep(float(rest[1]))
    rest = rest[2:]
elif not os.read(0, os.write(1, oracle.line()) and 1):
    os._exit(0)
launch(rest)
