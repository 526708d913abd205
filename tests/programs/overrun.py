"""Blocks of the debug allocator (PYTHONMALLOC=debug) with bytes written before and behind them.

`overrun` tells of each its address, side, domain, size, the bytes that stand in place of the guard, and the
object that the block is or belongs to, with its type.
"""

import ctypes
import os
import sys

import oracle

told = []


def tell(owner, address, side, domain, size, found):
    told.append(
        {
            "address": address,
            "side": side,
            "domain": domain,
            "size": size,
            "found": found,
            "type": None if owner is None else "builtins." + type(owner).__name__,
            "object": None if owner is None else id(owner),
        }
    )


api = ctypes.pythonapi
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
        tell(None, address, side, domain, size, found)
# Items of lists, in pymalloc and in malloc.
lists = [[None] * 20, [None] * 400]
for each in lists:
    items = ctypes.c_void_p.from_address(id(each) + 24).value
    ctypes.memset(items + 8 * len(each), 0x51, 4)
    tell(each, items, "behind", "mem", 8 * len(each), 4 * "51" + 4 * "fd")
# The domain is gone, too; the size is not.
texts = ["x" * size for size in (100, 3000)]
for each in texts:
    ctypes.memset(id(each) - 8, 0x47, 8)
    tell(each, id(each), "before", None, sys.getsizeof(each), 8 * "47")
# Both ends of one block.
ends = ["y" * size for size in (200, 2000)]
for each in ends:
    size = sys.getsizeof(each)
    ctypes.memset(id(each) - 2, 0x41, 2)
    ctypes.memset(id(each) + size, 0x42, 2)
    tell(each, id(each), "before", "object", size, 5 * "fd" + 2 * "41")
    tell(each, id(each), "behind", "object", size, 2 * "42" + 6 * "fd")
os.read(0, os.write(1, oracle.encode(oracle.message([], overrun=told))) and 1)
os._exit(0)
