"""Blocks of the debug allocator (PYTHONMALLOC=debug) with bytes written before and behind them.

`overrun` tells of each its address, side, domain, size, and the bytes that stand in place of the guard.
"""

import ctypes
import os

import oracle

api = ctypes.pythonapi
told = []
for function, domain, size in [
    ("PyMem_Malloc", "mem", 100),
    ("PyObject_Malloc", "object", 33),
    ("PyMem_Malloc", "mem", 3000),
    ("PyMem_RawMalloc", "raw", 700),
]:
    malloc = getattr(api, function)
    malloc.restype = ctypes.c_void_p
    malloc.argtypes = [ctypes.c_size_t]
    for side, offset in [("behind", size), ("before", -1)]:
        address = malloc(size)
        ctypes.memset(address, 1, size)
        ctypes.memset(address + offset, 0x21, 1)
        found = "21" + 7 * "fd" if side == "behind" else 6 * "fd" + "21"
        each = {"address": address, "side": side, "domain": domain, "size": size, "found": found}
        told.append(each)
os.read(0, os.write(1, oracle.encode(oracle.message([], overrun=told))) and 1)
os._exit(0)
