"""The profilers: how each is installed, started, and what it says that it saw."""

import os
import re
import resource
import signal
import subprocess
import sys

from targets import ROOT, TARGET, loader, sid

VENV = os.path.join(TARGET, "peers", "venv")
WORK = os.path.join(TARGET, "peers")


class Seen:
    """What a run saw: good samples, samples that it calls errors itself, stacks with counts."""

    def __init__(self, good, bad, seconds, stacks):
        self.good, self.bad, self.seconds, self.stacks = good, bad, seconds, stacks


def cpu():
    """CPU seconds of everything that was run to its end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(command, limit, environment=None):
    return subprocess.run(command, capture_output=True, text=True, errors="replace",
                          timeout=limit, env=environment, stdin=subprocess.DEVNULL)


def start(command, environment):
    """A profiler that is there until `end`."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            stdin=subprocess.DEVNULL, env=environment)


def end(watcher):
    """It was there the whole time, or the figure is of something else."""
    if watcher.poll() is not None:
        raise RuntimeError("it ended by itself")
    watcher.send_signal(signal.SIGINT)
    try:
        watcher.wait(10)
    except subprocess.TimeoutExpired:
        watcher.kill()
        watcher.wait()


def collapsed(path, frame):
    """Stacks of `a;b;c COUNT` lines; `frame` makes (file, function) of one word."""
    stacks = []
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                words, _, count = line.rstrip("\n").rpartition(" ")
                if count.isdigit():
                    frames = [frame(word) for word in words.split(";")]
                    stacks.append(([f for f in frames if f], int(count)))
    except FileNotFoundError:
        pass
    return stacks


def named(word):
    """`function (file.py:12)`, as py-spy writes it."""
    match = re.fullmatch(r"(.*) \((.*?)(?::\d+)?\)", word)
    return (os.path.basename(match[2]), match[1]) if match else None


class Onlooker:
    name = "Onlooker"
    # Replaced by `max` once there is that word.
    fastest = "100000"

    def __init__(self):
        subprocess.run(["cargo", "build", "--release", "-q", "-p", "onlooker"], cwd=ROOT,
                       check=True)
        self.program = os.path.join(TARGET, "release", "onlooker")
        text = subprocess.run([self.program, "record", "-p", "0", "-r", "max"],
                              capture_output=True, text=True).stderr
        if "invalid value 'max'" not in text:
            self.fastest = "max"

    path = os.path.join(WORK, "onlooker.txt")

    def command(self, pid, rate, seconds):
        return [self.program, "record", "-p", str(pid), "-r", str(rate), "-d", str(seconds),
                "-f", "raw", "-o", self.path], None

    def watch(self, pid, words):
        """A recording with these words, which ends when it is told to."""
        return [self.program, "record", "-p", str(pid), *words, "-o",
                os.path.join(WORK, "onlooker.olk")], None

    def record(self, pid, rate, seconds):
        command, environment = self.command(pid, rate, seconds)
        done = run(command, seconds + 60, environment)

        def count(word):
            match = re.search(r"([\d,.\u202f\u2009 ]+) %s" % word, done.stderr)
            return int(re.sub(r"\D", "", match[1])) if match else 0
        if not count("verified"):
            raise RuntimeError(done.stderr.strip()[-200:] or "no samples")
        bad = count("unverified") + count("lost")
        return Seen(count("verified"), bad, seconds, collapsed(self.path, named))


class PySpy:
    name = "py-spy"
    fastest = "10000"

    def __init__(self):
        self.program = os.path.join(VENV, "bin", "py-spy")

    path = os.path.join(WORK, "py-spy.txt")
    more = ()

    def command(self, pid, rate, seconds):
        return [self.program, "record", "-p", str(pid), "-r", str(rate), "-d", str(seconds),
                "-f", "raw", "-o", self.path, *self.more], None

    def record(self, pid, rate, seconds):
        if os.path.exists(self.path):
            os.remove(self.path)
        command, environment = self.command(pid, rate, seconds)
        done = run(command, seconds + 60, environment)
        samples = re.search(r"Samples: (\d+) Errors: (\d+)", done.stdout + done.stderr)
        stacks = collapsed(self.path, named)
        if not stacks:
            raise RuntimeError((done.stderr or done.stdout).strip().split("\n")[0])
        bad = int(samples[2]) if samples else 0
        good = int(samples[1]) if samples else sum(count for _, count in stacks)
        return Seen(good, bad, seconds, stacks)


class PySpyNonblocking(PySpy):
    name = "py-spy --nonblocking"
    more = ("--nonblocking",)


class Austin:
    name = "austin"
    fastest = "10000"

    def __init__(self):
        self.program = [os.path.join(VENV, "bin", "austin")]
        if os.path.exists(loader()[0]):
            self.program = [*loader(), *self.program]
        self.convert = os.path.join(VENV, "bin", "mojo2austin")

    mojo, path = os.path.join(WORK, "austin.mojo"), os.path.join(WORK, "austin.txt")

    def command(self, pid, rate, seconds):
        return [*self.program, "-i", str(int(1e6 / float(rate))), "-x", str(seconds), "-p",
                str(pid), "-o", self.mojo], None

    def record(self, pid, rate, seconds):
        command, environment = self.command(pid, rate, seconds)
        done = run(command, seconds + 60, environment)
        converted = run([self.convert, self.mojo, self.path], 60)
        # `P1;T0:1;file:function:line:...;... MICROSECONDS`: one line is one sample.
        stacks = []
        if converted.returncode == 0:
            for frames, _ in collapsed(self.path, self.frame):
                stacks.append((frames, 1))
        if not stacks:
            raise RuntimeError((converted.stderr or done.stderr).strip()[-150:] or "no samples")
        return Seen(len(stacks), 0, seconds, stacks)

    @staticmethod
    def frame(word):
        parts = word.rsplit(":")
        if word.startswith(("P", "T")) and len(parts) < 3:
            return None
        return (os.path.basename(parts[0]), parts[1]) if len(parts) >= 3 else None


class Tachyon:
    name = "Tachyon"
    fastest = "1000000"

    def __init__(self):
        self.python = sid()
        if self.python is None:
            raise RuntimeError("no 3.15: run tests/interpreters/fetch-sid.sh")

    path = os.path.join(WORK, "tachyon.txt")

    def command(self, pid, rate, seconds):
        return [*self.python, "-m", "profiling.sampling", "attach", "-a", "-r", str(rate), "-d",
                str(seconds), "--collapsed", "-o", self.path, str(pid)], dict(os.environ, LC_ALL="C")

    def record(self, pid, rate, seconds):
        command, environment = self.command(pid, rate, seconds)
        done = run(command, seconds + 60, environment)
        taken = re.search(r"Captured ([\d,]+) samples in ([\d.]+)", done.stdout + done.stderr)
        errors = re.search(r"Error rate: ([\d.]+)", done.stdout + done.stderr)
        if not taken:
            raise RuntimeError((done.stderr or done.stdout).strip()[-150:])
        samples = int(taken[1].replace(",", ""))
        bad = round(samples * float(errors[1]) / 100) if errors else 0
        return Seen(samples - bad, bad, float(taken[2]),
                    collapsed(self.path, self.frame))

    @staticmethod
    def frame(word):
        parts = word.rsplit(":", 2)
        return (os.path.basename(parts[0]), parts[1]) if len(parts) == 3 else None


def install(peers):
    """The profilers that there are, and why the others are not; without `peers` ours alone."""
    os.makedirs(WORK, exist_ok=True)
    if not peers:
        return {Onlooker.name: Onlooker()}, {}
    if not os.path.exists(os.path.join(VENV, "bin", "py-spy")):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([os.path.join(VENV, "bin", "pip"), "install", "-q", "py-spy",
                        "austin-dist", "austin-python"], check=True)
    tools, missing = {}, {}
    for kind in (Onlooker, PySpy, PySpyNonblocking, Austin, Tachyon):
        try:
            tools[kind.name] = kind()
        except (RuntimeError, OSError) as error:
            missing[kind.name] = str(error)
    return tools, missing
