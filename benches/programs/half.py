"""Half of its time in tiny calls, half in a loop without calls, for SECONDS.

usage: half.py [SECONDS]        (default: 3)

The two take turns so short that no clock is in step with them. Prints the share of `calls`, in
percent, by its own clock.
"""

import sys
import time


def tiny(n):
    return n


def calls(times):
    for n in range(times):
        tiny(n)


def loop(times):
    for n in range(times):
        pass


def main(seconds):
    clock = time.perf_counter
    each, other = 500, 1500
    in_calls = in_loop = 0.0
    begin = clock()
    while clock() - begin < seconds:
        start = clock()
        calls(each)
        middle = clock()
        loop(other)
        end = clock()
        in_calls += middle - start
        in_loop += end - middle
        # What runs ahead gets less work.
        other += 1 if in_loop < in_calls else -1
    print(100 * in_calls / (in_calls + in_loop), flush=True)


print("ready", flush=True)
main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
