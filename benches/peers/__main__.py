"""Onlooker beside py-spy, austin and Tachyon, in one run, as one table.

usage: python3 benches/peers [--quick] [--only WORD,...]

Needs cargo, a network for PyPI the first time, CPython 3.15 from tests/interpreters/fetch-sid.sh
(Tachyon looks only at its own version) and an older one (py-spy and austin). Times are compared
only within a run and side by side; figures are medians. Takes about fifteen minutes, --quick four;
`--only modes` (what Onlooker's own ways to watch cost a target) needs none of the peers.
"""

import argparse
import sys
import time

import sections
import targets
import tools


class Table:
    """Shown row by row, for it takes minutes."""

    def add(self, what, who, value, more=""):
        print("  %-44s %-21s %20s  %s" % (what, who, value, more), flush=True)

    def measure(self, what, tool, action):
        """`action` gives (value, remark); what fails is a row too."""
        try:
            self.add(what, tool.name, *action())
        except Exception as error:  # noqa: BLE001 - whatever a peer does, the others go on
            words = str(error).strip() or type(error).__name__
            self.add(what, tool.name, "does not run", words.split("\n")[-1][:90])


class Plan:
    """Who looks at what, and for how long."""

    def __init__(self, quick, found):
        self.quick = quick
        self.rounds = 1 if quick else 3
        self.seconds = 1 if quick else 3
        self.windows = 4 if quick else 12
        self.new, self.old = targets.sid(), targets.installed()
        self.tools = found

    def pairs(self, *names):
        """Each tool with the interpreter that it can look at; ours with the newest."""
        for name in names or self.tools:
            if name in self.tools:
                newest = self.new and name in ("Onlooker", "Tachyon")
                yield self.tools[name], self.new if newest else self.old


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of it")
    parser.add_argument("--only", default=",".join(sections.ALL), help="sections: %(default)s")
    arguments = parser.parse_args()
    start = time.monotonic()
    words = arguments.only.split(",")
    found, missing = tools.install(peers=words != ["modes"])
    plan, table = Plan(arguments.quick, found), Table()
    print("Onlooker and Tachyon look at CPython %s, py-spy and austin at %s" % (
        targets.version(plan.new or plan.old), targets.version(plan.old)))
    for name, why in missing.items():
        table.add("everything", name, "does not run", why)
    for word in words:
        sections.ALL[word](table, plan)
    print("%.0f s" % (time.monotonic() - start))


sys.exit(main())
