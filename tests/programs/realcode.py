"""Works for about SECONDS through code that everybody has: `ast`, `copy`, pickle in pure Python,
`json`, generators; in the main thread and in THREADS others.

usage: realcode.py [SECONDS] [THREADS] [turns]      (default: 2 0)

Nothing in it depends on time but when it ends, and no set is walked: two runs make the same
calls. With `turns` SECONDS is a number of turns instead, so that the work is fixed.
"""

import ast
import copy
import io
import json
import pickle
import sys
import threading
import time

SOURCE = '''
class Basket(dict):
    """A few things."""
    limit: int = 10
    def add(self, name, *, price=1.0, **more):
        if price < 0 or name in self and not more:
            raise ValueError(f"{name!r} costs {price:.2f}")
        self[name] = [(price * n) ** 2 for n in range(self.limit) if n % 2]
        return lambda: {k: v for k, v in self.items()}

async def take(baskets):
    async for basket in baskets:
        with open(basket) as file:
            yield await file.read(-1 if basket else ~0)
'''


class Node:
    def __init__(self, depth):
        self.children = [Node(depth - 1) for _ in range(2)] if depth else []
        self.value = {"depth": depth, "text": "x" * depth, "pair": (depth, -depth)}

    def __iter__(self):
        yield self
        for child in self.children:
            yield from child

    def __eq__(self, other):
        return self.value == other.value and self.children == other.children


class Visitor(ast.NodeVisitor):
    """`ast.unparse` where there is none (3.8)."""

    def __init__(self):
        self.names = []

    def generic_visit(self, node):
        self.names.append(type(node).__name__)
        super().generic_visit(node)


def as_is(value):
    return value


def unparse(tree):
    Visitor().visit(tree)
    if hasattr(ast, "unparse"):
        return ast.unparse(tree)
    return ast.dump(tree)


def pickled(value):
    file = io.BytesIO()
    pickle._Pickler(file, 4).dump(value)
    file.seek(0)
    return pickle._Unpickler(file).load()


def lazily(numbers):
    def even(numbers):
        for n in numbers:
            if not n % 2:
                yield n

    def sums(numbers):
        total = 0
        for n in numbers:
            total += n
            got = yield total
            if got:
                total = 0

    running = sums(even(numbers))
    largest = 0
    for n in running:
        largest = max(largest, n)
        if n > 500:
            running.send(True)
    return largest


def turn(tree, node):
    text = unparse(tree)
    twin = copy.deepcopy(node)
    again = pickled(twin)
    encoded = json.dumps([n.value for n in again], indent=1, sort_keys=True)
    decoded = json.loads(encoded, object_hook=as_is)
    return len(text) + len(decoded) + lazily(range(200)) + (twin == node)


def work(amount, turns):
    tree, node = ast.parse(SOURCE), Node(4)
    end = time.monotonic() + amount
    done = 0
    while done < amount if turns else time.monotonic() < end:
        turn(tree, node)
        done += 1


def main():
    amount = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    arguments = (amount, "turns" in sys.argv[3:])
    others = [threading.Thread(target=work, args=arguments) for _ in range(threads)]
    for thread in others:
        thread.start()
    work(*arguments)
    for thread in others:
        thread.join()


if __name__ == "__main__":
    main()
