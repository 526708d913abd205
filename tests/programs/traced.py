"""Keeps blocks that tracemalloc knows, and tells what tracemalloc itself says about them.

usage: traced.py [FRAMES] [rest | busy | many | off | stopped]        (default: 3 rest)

rest: nothing changes after the line; each byte on standard input makes 2000 more blobs and
another line. busy: allocates and frees all the time, elsewhere than in
the functions that are told about. off: tracemalloc is never started. many: a million blocks more. stopped: it was, and then
was not.
"""

import os
import sys
import threading
import tracemalloc

import oracle

FRAMES = int(sys.argv[1]) if len(sys.argv) > 1 else 3
MODE = sys.argv[2] if len(sys.argv) > 2 else "rest"
DOMAIN = 7


def blobs():
    return [bytes(1000) for _ in range(2000)]


def names():
    return ["déjà vu %d" % n for n in range(3000)]


def outer():
    return inner()


def inner():
    return [bytearray(5000) for _ in range(10)]


def foreign():
    """Blocks of another domain, as an extension's own allocator would have them."""
    try:
        import ctypes

        track = ctypes.pythonapi.PyTraceMalloc_Track
    except (ImportError, AttributeError):
        return 0
    track.argtypes = [ctypes.c_uint, ctypes.c_size_t, ctypes.c_size_t]
    for n in range(1, 51):
        track(DOMAIN, n * 4096, 100)
    return 50


def churn():
    kept = [None] * 4000
    n = 0
    while True:
        n += 1
        kept[n % 2000] = [object() for _ in range(5)]
        kept[2000 + n % 2000] = bytes(n % 3000)


def many():
    return [object() for _ in range(1000000)]


def told():
    """By line of the functions above: blocks and bytes, as tracemalloc says."""
    lines = {}
    for function in (blobs, names, inner):
        code = function.__code__
        lines[code.co_firstlineno + 1] = function.__name__
    answer = []
    only = [tracemalloc.Filter(True, __file__, all_frames=False)]
    for each in tracemalloc.take_snapshot().filter_traces(only).statistics("lineno"):
        line = each.traceback[0].lineno
        if line in lines:
            answer.append(
                {"function": lines[line], "line": line, "count": each.count, "bytes": each.size}
            )
    return answer


if MODE != "off":
    tracemalloc.start(FRAMES)
keep = [blobs(), names(), outer()]
count = foreign() if MODE in ("rest", "busy") else 0
sites = told() if MODE in ("rest", "busy") else []
traced = list(tracemalloc.get_traced_memory())
if MODE == "many":
    keep.append(many())
if MODE == "stopped":
    tracemalloc.stop()
if MODE == "busy":
    threading.Thread(target=churn, daemon=True).start()
more = {"file": __file__, "sites": sites, "traced": traced, "foreign": count}
while os.read(0, os.write(1, oracle.line(**more)) and 1):
    keep.append(blobs())
    more["sites"] = told()
os._exit(0)
