"""Interpreters and programs to look at."""

import glob
import os
import select
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
TREE = os.path.join(TARGET, "interpreters", "sid")
ORACLE = os.path.join(ROOT, "profiler", "src", "selfcheck", "oracle.py")


def loader():
    """Runs a program with the sid tree's glibc."""
    return [TREE + "/lib64/ld-linux-x86-64.so.2", "--library-path",
            TREE + "/usr/lib/x86_64-linux-gnu"]


def sid():
    """CPython 3.15 of the sid tree, as a command; None where there is no tree."""
    if not os.path.exists(TREE + "/.complete"):
        return None
    return [*loader(), TREE + "/usr/bin/python3.15"]


def installed():
    """The newest CPython 3.11 - 3.13 that is started as itself: py-spy and austin look at
    /proc/PID/exe, which is the loader for the tree's."""
    home = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    for minor in (13, 12, 11):
        found = sorted(glob.glob("%s/versions/3.%d.*/bin/python3.%d" % (home, minor, minor)))
        if found:
            return [found[-1]]
    return [sys.executable]


def version(python):
    question = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    return subprocess.check_output([*python, "-I", "-S", "-c", question], text=True).strip()


def program(name):
    folder = "tests" if name == "realcode.py" else "benches"
    return os.path.join(ROOT, folder, "programs", name)


class Target:
    """A program that runs while it is measured, ended with the value."""

    def __init__(self, python, name, *args, ready=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.process = subprocess.Popen(
            [*python, program(name), *map(str, args)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=environment)
        if ready:
            self.process.stdout.readline()

    @property
    def pid(self):
        return self.process.pid

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def line(self, limit=None):
        """The next line; a TimeoutError when there is none in so many seconds."""
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready:
            raise TimeoutError
        return self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def edges(python, name, *args):
    """The pairs of (file, function) that really occur, by the oracle of `onlooker selfcheck`."""
    folder = os.path.join(TARGET, "peers", "oracle-%d" % os.getpid())
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "edges")
    if os.path.exists(path):
        os.remove(path)
    with open(ORACLE) as source, open(os.path.join(folder, "sitecustomize.py"), "w") as copy:
        copy.write(source.read())
    environment = dict(os.environ, PYTHONPATH=folder, ONLOOKER_ORACLE=path)
    subprocess.run([*python, program(name), *map(str, args)], env=environment, timeout=60,
                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    found = set()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if fields[0] == "E":
                found.add(((os.path.basename(fields[2]), fields[1]),
                           (os.path.basename(fields[5]), fields[4])))
    return found
