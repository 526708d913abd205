"""One thread, and small objects that fill arenas.

usage: alone.py [COUNT]      (default: 20000)
"""

import os
import sys

import oracle

kept = ["text %d" % n for n in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20000)]
os.write(1, oracle.encode(oracle.message([])))
os.read(0, 1)
os._exit(0)
