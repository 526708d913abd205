"""Leaves processes behind whose parents are gone at once.

usage: orphans.py

`daemon` is one as daemons are made: forked twice, in a session of its own. `below` is started
by a shell that ends at once. The program itself ends before them. Says nothing.
"""

import os
import subprocess
import sys

SOURCE = """import time
def %s():
    end = time.process_time() + 0.7
    while time.process_time() < end:
        pass
%s()
"""


def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            exec(SOURCE % ("daemon_works", "daemon_works"), {})
        os._exit(0)


daemon()
command = '"$0" -c "$1" &'
subprocess.check_call(["sh", "-c", command, sys.executable, SOURCE % ("below", "below")])
sys.exit(3)
