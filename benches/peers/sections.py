"""What is measured. Each function is a part of the table."""

import functools
import time
from statistics import median

import targets
import tools
import windows
from targets import Target


def rates(table, plan):
    for depth in (20, 1000):
        for tool, python in plan.pairs("Onlooker", "Tachyon"):

            def action():
                found, errors = [], []
                for _ in range(plan.rounds):
                    with Target(python, "calls.py", depth) as target:
                        seen = tool.record(target.pid, tool.fastest, plan.seconds)
                    found.append(seen.good / seen.seconds)
                    errors.append(seen.bad / max(1, seen.bad + seen.good))
                return "%.0f" % median(found), "%.1f %% lost or errors" % (100 * median(errors))

            table.measure("good samples/s, highest rate, depth %d" % depth, tool, action)


def own_cpu(table, plan):
    """The slope between two durations, so that the start is not in it."""
    short, long = (1, 2) if plan.quick else (1, 5)
    for what, program, argument in (("depth 20", "calls.py", 20),
                                    ("128 idle threads", "idle.py", 128)):
        for tool, python in plan.pairs("Onlooker", "py-spy", "austin", "Tachyon"):

            def action():
                with Target(python, program, argument) as target:
                    cpu = [cpu_of(tool, target.pid, seconds) for seconds in (short, long)]
                return "%.2f %%" % (100 * (cpu[1] - cpu[0]) / (long - short)), ""

            table.measure("own CPU at 100 Hz, %s" % what, tool, action)


def cpu_of(tool, pid, seconds):
    """CPU seconds, also of a profiler that has no stacks to show because all is idle."""
    before = tools.cpu()
    command, environment = tool.command(pid, 100, seconds)
    tools.run(command, seconds + 60, environment)
    return tools.cpu() - before


def slowed(table, plan):
    for depth in (20, 1000):
        for tool, python in plan.pairs("Onlooker", "py-spy", "Tachyon"):

            def action():
                work = python, "calls.py", (depth, "turns", 60_000)
                command = functools.partial(tool.command, rate=1000, seconds=60)
                return windows.slowed(*work, command, plan.windows).row()

            table.measure("target slower, 1 kHz, depth %d" % depth, tool, action)


# What, what it does for it, program, arguments; nobody watches where there are no words.
MODES = (
    ("by nobody: what chance does", None, "calls.py", (20, "turns", 60_000)),
    ("-r 1000", ("-r", "1000"), "calls.py", (20, "turns", 60_000)),
    ("--exact -r 100", ("--exact", "-r", "100"), "calls.py", (20, "turns", 60_000)),
    ("by nobody, growing", None, "grow.py", ("records",)),
    ("--growth, a cache of records", ("--growth",), "grow.py", ("records",)),
    ("--growth, nothing but new pages", ("--growth",), "grow.py", ("pages",)),
)


def modes(table, plan):
    """Onlooker's own ways to watch, beside nobody."""
    for what, words, program, arguments in MODES:
        for tool, python in plan.pairs("Onlooker"):

            def action():
                command = words and functools.partial(tool.watch, words=words)
                return windows.slowed(python, program, arguments, command, plan.windows).row()

            table.measure("target slower, %s" % what, tool, action)


# What, program, arguments that a run of so many seconds gets.
CASES = (
    ("real code", "realcode.py", lambda seconds: [seconds, 0]),
    ("pairs of equal frames", "pairs.py", lambda seconds: [seconds]),
    ("pairs, recursion of 30", "pairs.py", lambda seconds: [seconds, 30]),
)


def impossible(table, plan):
    seconds = 1 if plan.quick else 5
    for what, program, arguments in CASES:
        legal = {}
        for tool, python in plan.pairs():

            def action():
                if python[-1] not in legal:
                    legal[python[-1]] = targets.edges(python, program, *arguments(0.3))
                ready = program != "realcode.py"
                with Target(python, program, *arguments(seconds + 60), ready=ready) as target:
                    # Imports are over then.
                    time.sleep(0.5)
                    seen = tool.record(target.pid, 1000, seconds)
                edges, wrong, stacks, wrong_stacks = compare(seen.stacks, legal[python[-1]])
                lost = 100 * seen.bad / max(1, seen.bad + seen.good)
                return ("%.3f %% of stacks" % (100 * wrong_stacks / max(1, stacks)),
                        "%d of %d edges; %.2f %% of ticks lost" % (wrong, edges, lost))

            table.measure("impossible, 1 kHz, %s" % what, tool, action)


def compare(stacks, legal):
    """Edges, impossible ones, stacks, stacks with an impossible one."""
    edges = wrong = total = wrong_stacks = 0
    for frames, count in stacks:
        # The outermost frame has a caller too: nothing.
        found = sum(pair not in legal for pair in zip([("", ""), *frames], frames))
        edges += count * len(frames)
        wrong += count * found
        total += count
        wrong_stacks += count * (found > 0)
    return edges, wrong, total, wrong_stacks


def share(table, plan):
    seconds = 2 if plan.quick else 8
    for tool, python in plan.pairs():

        def action():
            with Target(python, "half.py", seconds + 2) as target:
                seen = tool.record(target.pid, 1000, seconds)
                truth = float(target.line())
            calls = within = 0
            for frames, count in seen.stacks:
                names = {function for _, function in frames}
                calls += count * ("calls" in names)
                within += count * bool(names & {"calls", "loop"})
            return "%.1f %%" % (100 * calls / max(1, within)), "truly %.1f %%" % truth

        table.measure("half the time in tiny calls, shown as", tool, action)


ALL = {"rates": rates, "cpu": own_cpu, "slowed": slowed, "modes": modes,
       "impossible": impossible, "share": share}
