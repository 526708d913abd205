"""COUNT threads that wait, and a main thread that waits too, until standard input closes.

usage: idle.py [COUNT]      (default: 128)
"""

import os
import sys
import threading

gate = threading.Event()
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 128):
    threading.Thread(target=gate.wait, daemon=True).start()
print("ready", flush=True)
while os.read(0, 4096):
    pass
os._exit(0)
