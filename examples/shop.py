"""A small shop at work: something to profile.

usage: python3 shop.py [SECONDS]        (default: 5)

Orders arrive as JSON, are priced by two threads, and end in a report. Kits are made of
kits, several hundred deep, so that stacks are deep as well. It needs nothing but the
standard library and runs on Python 3.6 and newer.

    onlooker record -o flame.svg -- python3 examples/shop.py
"""

import json
import queue
import random
import sys
import threading
import time
from collections import Counter, namedtuple
from functools import reduce

SECONDS = 5.0
PRODUCTS = 400
ORDERS_PER_ROUND = 300
KIT_DEPTH = 400
CLERKS = 2

Product = namedtuple("Product", "number name category cents")


class Kit:
    """A product made of parts, one of which may be a kit again."""

    def __init__(self, product, parts, inner=None):
        self.product = product
        self.parts = parts
        self.inner = inner

    def cost(self):
        own = sum(part.cents for part in self.parts)
        if self.inner is None:
            return own
        return own + self.inner.cost()

    def walk(self):
        """Every part of this kit and of the kits inside it."""
        yield from self.parts
        if self.inner is not None:
            yield from self.inner.walk()


class Catalogue:
    CATEGORIES = ("tea", "coffee", "cakes", "cups", "books", "café")

    def __init__(self, rng):
        self.products = {p.number: p for p in self.invent(rng)}
        self.by_category = {}
        for product in self.products.values():
            self.by_category.setdefault(product.category, []).append(product)
        self.kit = self.assemble(KIT_DEPTH)

    def invent(self, rng):
        for number in range(PRODUCTS):
            category = rng.choice(self.CATEGORIES)
            name = "%s no. %d" % (category, number)
            yield Product(number, name, category, rng.randrange(50, 5000))

    def assemble(self, depth):
        kit = None
        for level in range(depth):
            parts = [self.products[(level * 7 + i) % PRODUCTS] for i in range(2)]
            kit = Kit(self.products[level % PRODUCTS], parts, kit)
        return kit

    def search(self, words):
        """Products whose names hold all the words, cheapest first."""
        found = (p for p in self.products.values() if all(w in p.name for w in words))
        return sorted(found, key=lambda product: product.cents)


class Customers:
    """Writes orders as a web shop would send them."""

    def __init__(self, rng, catalogue):
        self.rng = rng
        self.catalogue = catalogue

    def letters(self, count):
        for number in range(count):
            lines = [
                {"product": self.rng.randrange(PRODUCTS), "quantity": self.rng.randrange(1, 6)}
                for _ in range(self.rng.randrange(1, 9))
            ]
            order = {"order": number, "customer": "c%d" % (number % 97), "lines": lines}
            if number % 50 == 0:
                order["kit"] = True
            yield json.dumps(order)


class Pricing:
    RATES = ((100000, 12), (50000, 8), (20000, 5), (0, 0))

    def __init__(self, catalogue):
        self.catalogue = catalogue

    def line(self, line):
        product = self.catalogue.products[line["product"]]
        return product.cents * line["quantity"]

    def discount(self, cents):
        for least, percent in self.RATES:
            if cents >= least:
                return cents * percent // 100
        return 0

    def order(self, order):
        cents = reduce(lambda total, line: total + self.line(line), order["lines"], 0)
        if order.get("kit"):
            cents += self.catalogue.kit.cost()
            cents += sum(1 for part in self.catalogue.kit.walk() if part.cents < 1000)
        return cents - self.discount(cents)


class Book:
    """What was sold; the clerks share it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.orders = 0
        self.turnover = 0
        self.categories = Counter()
        self.customers = Counter()

    def enter(self, order, cents, categories):
        with self.lock:
            self.orders += 1
            self.turnover += cents
            self.categories.update(categories)
            self.customers[order["customer"]] += cents


def clerk(catalogue, pricing, book, letters):
    """Takes letters until an empty one comes."""
    for letter in iter(letters.get, None):
        order = json.loads(letter)
        cents = pricing.order(order)
        categories = [catalogue.products[line["product"]].category for line in order["lines"]]
        book.enter(order, cents, categories)


def open_shop(catalogue, book, letters):
    pricing = Pricing(catalogue)
    clerks = [
        threading.Thread(
            target=clerk, args=(catalogue, pricing, book, letters), name="clerk-%d" % (number + 1)
        )
        for number in range(CLERKS)
    ]
    for thread in clerks:
        thread.start()
    return clerks


def close_shop(clerks, letters):
    for _ in clerks:
        letters.put(None)
    for thread in clerks:
        thread.join()


def report(catalogue, book):
    best = book.customers.most_common(3)
    teas = catalogue.search(("tea", "1"))
    rows = ["%s %d" % (category, count) for category, count in sorted(book.categories.items())]
    return {"best": best, "rows": rows, "cheapest_tea": teas[0].name if teas else None}


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    end = time.monotonic() + seconds
    rng = random.Random(2024)
    catalogue = Catalogue(rng)
    customers = Customers(rng, catalogue)
    book = Book()
    letters = queue.Queue(maxsize=ORDERS_PER_ROUND)
    clerks = open_shop(catalogue, book, letters)
    try:
        while True:
            for letter in customers.letters(ORDERS_PER_ROUND):
                letters.put(letter)
            report(catalogue, book)
            if time.monotonic() >= end:
                break
    finally:
        close_shop(clerks, letters)
    summary = report(catalogue, book)
    print(
        "shop: %d orders, turnover %.2f, %d categories, best customer %s"
        % (book.orders, book.turnover / 100, len(summary["rows"]), summary["best"][0][0])
    )


if __name__ == "__main__":
    main()
