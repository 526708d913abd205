"""What a test program says about itself: the stacks that the interpreter itself sees.

The protocol is told in tests/README.md. The rule that everything here serves: from the
moment that the line can be read outside, no thread leaves the frame and the line that
were reported. A thread therefore announces itself and blocks in one expression on one
line, by calls into C only:

    worker:       started.release() or GATE.acquire()
    main thread:  os.read(0, os.write(1, oracle.line()) and 1)
"""

import json
import os
import sys
import threading
import _thread

# Never released: the program ends by os._exit when its standard input closes.
GATE = _thread.allocate_lock()
GATE.acquire()


# By id of the code object, which is kept: equal ones may have other positions.
POSITIONS = {}


def position(code, lasti):
    """Columns and last line of an instruction, all None before 3.11."""
    if not hasattr(code, "co_positions") or lasti < 0:
        return None, None, None
    if id(code) not in POSITIONS:
        POSITIONS[id(code)] = (code, list(code.co_positions()))
    _, end_line, column, end_column = POSITIONS[id(code)][1][lasti // 2]
    return column, end_line, end_column


def stack(frame):
    """The frames from `frame` outwards, newest first."""
    frames = []
    while frame is not None:
        code = frame.f_code
        column, end_line, end_column = position(code, frame.f_lasti)
        frames.append(
            {
                "name": getattr(code, "co_qualname", code.co_name),
                "filename": code.co_filename,
                "line": frame.f_lineno,
                "column": column,
                "end_line": end_line,
                "end_column": end_column,
            }
        )
        frame = frame.f_back
    return frames


def interpreter_id():
    """The id of the interpreter that runs this, 0 where it cannot be asked."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        answer = module.get_current()
        return int(answer[0] if isinstance(answer, tuple) else answer)
    return 0


def thread(ident, native_id, name, frames, interpreter=0):
    return {
        "interpreter": interpreter,
        "ident": ident,
        "native_id": native_id,
        "name": name,
        "frames": frames,
    }


def threads(newest):
    """Every thread of this interpreter; the calling one from the frame `newest` on."""
    me = threading.get_ident()
    frames = sys._current_frames()
    interpreter = interpreter_id()
    found = []
    for each in threading.enumerate():
        top = newest if each.ident == me else frames.get(each.ident)
        if top is not None:
            found.append(
                thread(each.ident, each.native_id, each.name, stack(top), interpreter)
            )
    if all(each["ident"] != me for each in found):
        # `threading` has not met it: a native thread of a program that embeds us.
        found.append(own(newest))
    return found


def own(newest=None):
    """The calling thread alone, from the caller's frame on.

    Inside a sub-interpreter this is the only way: `sys._current_frames` looks into every
    interpreter of the process, makes frame objects there and returns one stack a thread.
    The name is None for a thread that this interpreter's `threading` has not met.
    """
    ident = threading.get_ident()
    known = threading._active.get(ident)
    return thread(
        ident,
        threading.get_native_id(),
        known.name if known else None,
        stack(newest or sys._getframe(1)),
        interpreter_id(),
    )


def encode(message):
    """One line, ASCII only, so that no locale changes it."""
    return json.dumps(message).encode("ascii") + b"\n"


def message(threads, **more):
    answer = {
        "ready": True,
        "program": os.path.basename(sys.argv[0]),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "pid": os.getpid(),
        "threads": threads,
    }
    answer.update(more)
    return answer


def line(other_threads=(), **more):
    """The line to be written, with the caller's own stack as it is in the caller."""
    found = threads(sys._getframe(1))
    found.extend(other_threads)
    return encode(message(found, **more))


def start(target, args=(), name=None):
    """Starts a daemon thread. It is handed a lock as its first argument, to be released
    when it has come to rest, and returns that lock."""
    started = _thread.allocate_lock()
    started.acquire()
    threading.Thread(target=target, args=(started,) + tuple(args), name=name, daemon=True).start()
    return started


def wait(locks):
    """Waits until every thread has come to rest. A minute is for a machine that is very busy."""
    for lock in locks:
        if not lock.acquire(True, 60):
            raise SystemExit("a thread did not come to rest")
