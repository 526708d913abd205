"""Writes down who calls whom, for `onlooker selfcheck`.

Runs as `sitecustomize`, from a folder that PYTHONPATH names, in CPython 3.8 - 3.15. A pair is
(code of the caller, code of the callee) as `f_back` shows it whenever a frame starts or goes on;
generators that are resumed, `__del__`, signal handlers and calls made by C are all in it.

It imports nothing that the interpreter had not imported by itself: an import that the program
makes later would not happen then. A new pair is appended to the file at once, by a descriptor of
its own: nothing depends on how the program ends, and none of its descriptors can be hit.

A line is a kind and fields between tabs: `E` caller callee (three fields each: name, file, first
line; a caller of three empty fields stands for "nothing", the callee is an outermost frame), `A`
code that the interpreter calls at any point, `T` code of a trace or profile function of the
program, `V` the way that was taken.
"""

import _thread
import os
import sys

HERE = sys._getframe().f_code.co_filename
FOLDER = os.path.dirname(HERE)
PATH = os.environ.pop("ONLOOKER_ORACLE", "")
PID = os.getpid()
# Generators, coroutines and asynchronous generators.
RESUMABLE = 0x20 | 0x80 | 0x200
# Names are shown up to so many characters.
SHOWN = 16383
# Beyond so many code objects all are forgotten, and learnt again: code may be made all the time.
MOST = 200000

seen = {}  # id of the caller's code: ids of callees' code; 0: nothing
kept = []  # so that no id in `seen` is used again
marked = set()
traced = {}  # id of the code of a trace function: the code


def text(string):
    """As Onlooker shows it, in one field."""
    if len(string) > SHOWN:
        string = string[:SHOWN] + "\u2026"
    out = []
    for char in string:
        if char in "\\\t\n\r":
            char = "\\" + "\\tnr"["\\\t\n\r".index(char)]
        elif "\ud800" <= char <= "\udfff":
            char = "\ufffd"
        out.append(char)
    return "".join(out)


def fields(code):
    name = getattr(code, "co_qualname", code.co_name)
    return "%s\t%s\t%d" % (text(name or "<empty>"), text(code.co_filename), code.co_firstlineno)


def append(lines, path=PATH, pid=PID, open=os.open, write=os.write, close=os.close,
           getpid=os.getpid, flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC):
    if getpid() != pid:
        return  # a child by fork is another program
    try:
        file = open(path, flags, 0o600)
        try:
            write(file, "".join(lines).encode("utf-8"))
        finally:
            close(file)
    except OSError:
        pass


def anywhere(modules=sys.modules):
    """Functions that run wherever the program happens to be."""
    found = []
    signal = modules.get("_signal")
    for number in range(1, 65) if signal is not None else ():
        try:
            found.append(signal.getsignal(number))
        except ValueError:
            pass
    found.extend(getattr(modules.get("gc"), "callbacks", ()))
    for function in found:
        code = code_of(function)
        if code is not None:
            yield code


def code_of(function):
    if type(function) is METHOD:
        function = function.__func__
    elif type(function) is not FUNCTION:
        function = getattr(type(function), "__call__", None)
    return function.__code__ if type(function) is FUNCTION else None


def traces(function, frame=None, traced=traced, code_of=code_of):
    """Nobody is told what a trace or profile function calls while it runs: it is only named, and
    so is what it returned to trace the caller with."""
    back = frame.f_back if frame is not None else None
    for each in (function, back.f_trace if back is not None else None):
        code = code_of(each) if each is not None else None
        if code is not None and id(code) not in traced:
            traced[id(code)] = code
            append(["T\t" + fields(code) + "\n"])


def learn(frame, here=HERE):
    """The whole stack is true, so all of it is written."""
    lines = []
    if len(kept) > MOST:
        seen.clear()
        del kept[:]
    for code in anywhere():
        line = "A\t" + fields(code) + "\n"
        if line not in marked:
            marked.add(line)
            lines.append(line)
    while frame is not None:
        back = frame.f_back
        callee = frame.f_code
        caller = back.f_code if back is not None else None
        known = seen.get(id(caller) if caller is not None else 0)
        if known is None:
            known = seen[id(caller) if caller is not None else 0] = set()
            kept.append(caller)
        if id(callee) not in known:
            known.add(id(callee))
            kept.append(callee)
            if callee.co_filename != here:
                outermost = caller is None or caller.co_filename == here
                lines.append("E\t%s\t%s\n" % ("\t\t" if outermost else fields(caller), fields(callee)))
        frame = back
    if lines:
        append(lines)


def called(frame, seen=seen, learn=learn, id=id, resumable=RESUMABLE, gettrace=sys.gettrace,
           traces=traces):
    function = gettrace()
    if function is not None:
        traces(function, frame)
    while True:
        back = frame.f_back
        code = frame.f_code
        known = seen.get(id(back.f_code) if back is not None else 0)
        if known is None or id(code) not in known:
            learn(frame)
            return
        # `throw` and `close` put the generators on the way into the stack without an event.
        if back is None or not code.co_flags & resumable:
            return
        frame = back


def profile(frame, event, arg, called=called):
    if event == "call":
        called(frame)


def started(code, offset, exception=None, called=called, getframe=sys._getframe,
            getprofile=sys.getprofile, traces=traces):
    function = getprofile()
    if function is not None:
        traces(function)
    called(getframe(1))


def by_monitoring():
    monitoring = sys.monitoring
    events = monitoring.events
    for tool in (4, 3, monitoring.PROFILER_ID):
        try:
            monitoring.use_tool_id(tool, "onlooker selfcheck")
        except ValueError:
            continue
        for event in (events.PY_START, events.PY_RESUME, events.PY_THROW):
            monitoring.register_callback(tool, event, started)
        monitoring.set_events(tool, events.PY_START | events.PY_RESUME | events.PY_THROW)
        return True
    return False


def by_profile():
    start = _thread.start_new_thread

    def start_new_thread(function, args, kwargs={}):
        def begin(*args, **kwargs):
            sys.setprofile(profile)
            return function(*args, **kwargs)
        return start(begin, args, kwargs)

    # Every way of `threading` ends here, and programs that use `_thread` do too.
    _thread.start_new_thread = start_new_thread
    if "threading" in sys.modules:
        sys.modules["threading"]._start_new_thread = start_new_thread
    sys.setprofile(profile)


def hide():
    """Nothing but a few functions is left of this: no folder, no variable, no module."""
    before = os.environ.pop("ONLOOKER_PYTHONPATH", None)
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before
    sys.path[:] = [path for path in sys.path if path != FOLDER]
    sys.path_importer_cache.pop(FOLDER, None)
    sys.modules.pop("sitecustomize", None)


FUNCTION = type(hide)
METHOD = type(type("", (), {"method": hide})().method)

hide()
if PATH:
    way = "monitoring" if hasattr(sys, "monitoring") and by_monitoring() else "setprofile"
    append(["V\t%s\n" % way])
    if way == "setprofile":
        by_profile()
# The one that this folder stood before, if there is one. If not, its ImportError is what the
# interpreter expects where there is no such module.
import sitecustomize  # noqa: E402,F401
