"""Prints the line tables of real code objects and what the interpreter makes of them.

One line per code object, separated by spaces: co_firstlineno, the table in hex, the size
of the code, then for every lasti from -2 on in steps of two "line,column,end_line,
end_column" with "-" for None. Lines are from PyCode_Addr2Line, which tracebacks use;
the rest from co_positions, and equal positions in a row are written as "=".
"""
from __future__ import print_function

import ctypes
import os
import sys

PLACES = ["json", "asyncio", "typing.py", "argparse.py", "dataclasses.py", "inspect.py"]

addr2line = ctypes.pythonapi.PyCode_Addr2Line
addr2line.argtypes = [ctypes.py_object, ctypes.c_int]
addr2line.restype = ctypes.c_int


def shown(value):
    return "-" if value is None else str(value)


def describe(code, out):
    table = getattr(code, "co_linetable", None)
    if table is None:
        table = code.co_lnotab
    size = len(code.co_code)
    rows, last = [], None
    columns = list(code.co_positions()) if hasattr(code, "co_positions") else None
    for lasti in range(-2, size, 2):
        line = addr2line(code, lasti)
        line = None if line < 0 else line
        row = (line, None, None, None)
        if columns is not None and lasti >= 0:
            said, end_line, column, end_column = columns[lasti // 2]
            if said != line:
                raise AssertionError((code, lasti, said, line))
            row = (line, column, end_line, end_column)
        rows.append("=" if row == last else ",".join(map(shown, row)))
        last = row
    table = "".join("%02x" % byte for byte in bytearray(table))
    out.write("%d %s %d %s\n" % (code.co_firstlineno, table or "-", size, " ".join(rows)))


def walk(code, out):
    describe(code, out)
    for const in code.co_consts:
        if isinstance(const, type(code)):
            walk(const, out)


library = os.path.dirname(os.__file__)
for place in PLACES:
    place = os.path.join(library, place)
    files = [place]
    if os.path.isdir(place):
        files = [os.path.join(place, name) for name in sorted(os.listdir(place))]
    for path in files:
        # 2.7 has fewer of them.
        if path.endswith(".py") and os.path.exists(path):
            with open(path, "rb") as source:
                walk(compile(source.read(), path, "exec"), sys.stdout)
