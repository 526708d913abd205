"""Makes sub-interpreters one after the other, runs code in each and destroys it.

usage: hatch.py [COUNT]       (default: 30)

The one with the id N runs `inside_N`, which begins on line N % 97 + 1 of its source and spins
in the two lines behind that. Says nothing; ends when all have run.
"""

import sys

SOURCE = """{lines}def inside_{n}(spin):
    for _ in range(spin):
        pass
inside_{n}({spin})
"""


def module_and_create():
    """The module for interpreters, and what makes one."""
    try:
        import _interpreters

        return _interpreters, lambda: _interpreters.create("legacy")
    except ImportError:
        import _xxsubinterpreters

        return _xxsubinterpreters, _xxsubinterpreters.create


def hatch(module, create):
    interpreter = create()
    n = int(interpreter)
    module.run_string(interpreter, SOURCE.format(lines="\n" * (n % 97), n=n, spin=300000))
    module.destroy(interpreter)


module, create = module_and_create()
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 30):
    hatch(module, create)
