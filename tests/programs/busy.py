"""Calls all the time, in the main thread and in THREADS others, until standard input closes.

usage: busy.py [THREADS] [DEPTH]       (default: 0 40)

No stack can be foretold, but every legal step of one can: "edges" in the line lists
[caller, line, callee] for all that is below `round`. A stack with another step in it
never was. `even` and `odd` take turns, so that no two neighbours have the same name.
"""

import ast
import os
import sys
import threading

import oracle


def even(depth, size):
    a = b = c = d = size
    if depth > 0:
        return odd(depth - 1, a)
    return leaf(size)


def odd(depth, size):
    if depth % 8 == 1:
        return drain(depth - 1, size)
    if depth % 16 == 3:
        return shape(depth - 1, size)
    return even(depth - 1, size)


def drain(depth, size):
    total = 0
    for value in source(depth, size):
        total += value
    return total


def source(depth, size):
    yield even(depth, size)
    yield leaf(size)


class Shape:
    def __init__(self, depth, size):
        self.size = even(depth, size)


def shape(depth, size):
    return Shape(depth, size).size


def leaf(size):
    return größe(size) + sum(n for n in range(size % 7))


def größe(size):
    return len(str(size))


def round(depth, size):
    return even(depth, size)


def edges():
    """The call sites in this file, between functions of this file."""
    with open(__file__, "rb") as source_file:
        tree = ast.parse(source_file.read())
    qualified = sys.version_info >= (3, 11)
    functions = {"even", "odd", "drain", "source", "shape", "leaf", "größe"}
    init = "Shape.__init__" if qualified else "__init__"
    genexpr = "leaf.<locals>.<genexpr>" if qualified else "<genexpr>"
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.name in ("edges", "größen", "begin"):
            continue
        caller = init if node.name == "__init__" else node.name
        for call in ast.walk(node):
            if isinstance(call, ast.GeneratorExp):
                found.append([caller, call.lineno, genexpr])
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                if call.func.id in functions:
                    # A generator runs where its loop asks for values: the `for` line.
                    found.append([caller, call.lineno, call.func.id])
                if call.func.id == "Shape":
                    found.append([caller, call.lineno, init])
    return found


def größen(depth):
    size = 0
    while True:
        size += 1
        round(depth + size % 5, size)


def begin(started, depth):
    started.release()
    größen(depth)


def stop():
    while os.read(0, 4096):
        pass
    os._exit(0)


threads = int(sys.argv[1]) if len(sys.argv) > 1 else 0
depth = int(sys.argv[2]) if len(sys.argv) > 2 else 40
sys.setrecursionlimit(depth * 2 + 1000)
known = edges()
threading.Thread(target=stop, name="stdin", daemon=True).start()
oracle.wait([oracle.start(begin, (depth,), "busy-%d" % n) for n in range(threads)])
os.write(1, oracle.encode(oracle.message([], edges=known)))
größen(depth)
