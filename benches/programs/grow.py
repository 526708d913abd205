"""Grows all the time, in slices that it is asked for (`slices.py`); what it has is dropped after each line.

usage: grow.py records | pages

`records` reads lines of JSON and keeps what they say, as a cache that fills does. `pages` does nothing
but touch new memory, the worst case: no program grows faster.
"""

import json
import sys

import slices

LINES = [json.dumps({"id": n, "name": "customer %d" % n, "mail": "c%d@example.org" % n,
                     "tags": ["tag %d" % (n % 7), "tag %d" % (n % 11)],
                     "orders": [{"item": n % 97, "price": n / 100, "note": "order %d" % n}]})
         for n in range(1500)]
ZEROS = bytes(8 << 20)
kept = []


def records():
    by_mail = {}
    for line in LINES:
        record = json.loads(line)
        record["total"] = sum(order["price"] for order in record["orders"])
        by_mail[record["mail"].upper()] = record
    kept.append(by_mail)


def pages():
    kept.append(bytearray(len(ZEROS)))
    kept[-1][:] = ZEROS


slices.serve({"records": records, "pages": pages}[sys.argv[1]], kept.clear)
