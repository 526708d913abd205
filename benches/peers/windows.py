"""How much slower a target runs while it is watched.

One process works in windows: alone, watched, alone, watched and so on. Each watched window is compared with
the mean of the two beside it, so that a machine that gets slower or faster slows both. A window is forty
slices of the same work (`benches/programs/slices.py`). Other processes make some slices longer,
never shorter, and a stop comes many times in each: the lower quartile of the slices is what is compared.
Beside it stands what that leaves out: whole windows, and the target's own CPU time, in which a
stop is not counted but what it leaves behind in caches is.
"""

import glob
import time
from statistics import mean, median, quantiles

import tools
from targets import Target

# A profiler is at work so long after its start; one of ours has no breakpoint in the target any more then.
STARTS = 1.5
# A window that takes longer is not waited for: py-spy stops a deep stack most of the time.
LIMIT = 30


class Window:
    """What the target did in one window."""

    def __init__(self, target, limit=None):
        target.go()
        self.cpu, self.grown, *slices = map(float, target.line(limit).split())
        self.whole, self.slice = sum(slices), quantiles(slices, n=4)[0]


class Slowed:
    """What came of all windows: ratios, and how fast the target grew when it was alone."""

    def __init__(self, alone, watched, own):
        beside = list(zip(alone, watched, alone[1:]))
        self.pairs = len(beside)
        self.slices, self.whole, self.cpu = (
            sorted(100 * (with_it / mean((before, after)) - 1) for before, with_it, after in (
                [getattr(window, name) for window in three] for three in beside))
            for name in ("slice", "whole", "cpu"))
        self.rate = median(window.grown / window.whole for window in alone)
        self.own = own

    def row(self):
        low, _, high = quantiles(self.slices, n=4)
        more = "quartiles %+.1f %+.1f of %d pairs; whole windows %+.1f %%, CPU %+.1f %%" % (
            low, high, self.pairs, median(self.whole), median(self.cpu))
        if self.own is not None:
            more += "; own CPU %.1f %% of the other core" % (100 * self.own)
        if self.rate > 1e6:
            more += "; %.0f MB/s" % (self.rate / 1e6)
        return "%+.2f %%" % median(self.slices), more


class TooSlow:
    """A watched window was not done in time."""

    def __init__(self, alone):
        self.least = 100 * (LIMIT / median(window.whole for window in alone) - 1)

    def row(self):
        return "> %+.0f %%" % self.least, "a window was not done in %d s" % LIMIT


def slowed(python, program, arguments, command, pairs):
    """`command` makes the profiler's command and environment for a process; None for nobody."""
    with Target(python, program, *arguments) as target:
        Window(target)
        alone, watched, own = [Window(target)], [], []
        for _ in range(pairs):
            watcher = tools.start(*command(target.pid)) if command else None
            if watcher:
                time.sleep(STARTS)
                before, start = cpu_of(watcher.pid), time.monotonic()
            try:
                watched.append(Window(target, LIMIT))
            except TimeoutError:
                return TooSlow(alone)
            finally:
                if watcher:
                    own.append((cpu_of(watcher.pid) - before) / (time.monotonic() - start))
                    tools.end(watcher)
            alone.append(Window(target))
    return Slowed(alone, watched, median(own) if own else None)


def cpu_of(pid):
    """CPU seconds of all threads of a running process."""
    total = 0
    for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
        with open(path) as stat:
            total += int(stat.read().split()[0])
    return total / 1e9
