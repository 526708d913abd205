"""A frame whose code object has a long name and file name, or none.

usage: names.py CHARACTER NAME_CHARS FILE_CHARS

Both names are CHARACTER so many times.
"""

import os
import sys

import oracle


def named():
    os.read(0, os.write(1, oracle.line()) and 1)


def rename(code, name, filename):
    code = code.replace(co_name=name, co_filename=filename)
    return code.replace(co_qualname=name) if hasattr(code, "co_qualname") else code


character, *lengths = sys.argv[1:]
named.__code__ = rename(named.__code__, *(character * int(length) for length in lengths))
named()
os._exit(0)
