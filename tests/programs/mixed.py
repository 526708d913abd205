"""A stack of every kind of call that Python has, in the main thread and in a worker.

usage: mixed.py [PASSES]       (default: 2)

`descend` takes the next kind from a list and calls it with the rest; every kind calls
`descend` again, by way of a generator, a coroutine, a class body, C code and so on. The
last one comes to rest. The worker takes the kinds in the opposite order.
"""

import asyncio
import contextlib
import functools
import os
import re
import sys
import threading
import types

import oracle


def descend(rest, leaf):
    if rest:
        return rest[0](rest[1:], leaf)
    return leaf()


# --- functions -------------------------------------------------------------------------


def over_lines(rest, leaf):
    return descend(
        rest,
        leaf,
    )


def arguments(rest, leaf, *more, key=None, **others):
    return descend(rest, leaf) if key else arguments(rest, leaf, 1, 2, key=3, other=4)


def closure(rest, leaf):
    def größe():
        nonlocal rest
        rest = tuple(rest)
        return descend(rest, leaf)

    return größe()


def a_lambda(rest, leaf):
    return (lambda: descend(rest, leaf))()


def decorated(rest, leaf):
    def decorator(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @decorator
    def имя():
        return descend(rest, leaf)

    return имя()


def decorating(rest, leaf):
    @lambda_of(rest, leaf)
    def never_called():
        pass

    return never_called


def lambda_of(rest, leaf):
    return lambda function: descend(rest, leaf)


def default_value(rest, leaf):
    def never_called(value=descend(rest, leaf)):
        pass

    return never_called


def partial(rest, leaf):
    return functools.partial(descend, rest)(leaf)


def cached(rest, leaf):
    @functools.lru_cache(maxsize=None)
    def 名前():
        return descend(rest, leaf)

    return 名前()


def handler(rest, leaf):
    try:
        raise KeyError("handled")
    except KeyError:
        try:
            return descend(rest, leaf)
        finally:
            rest = ()


def finalizer(rest, leaf):
    try:
        pass
    finally:
        result = descend(rest, leaf)
    return result


def applied(rest, leaf):
    return descend(*(rest, leaf), **{})


# --- comprehensions --------------------------------------------------------------------


def list_comprehension(rest, leaf):
    return [descend(rest, leaf) for _ in (1,)]


def dict_comprehension(rest, leaf):
    return {1: descend(rest, leaf) for _ in (1,)}


def set_comprehension(rest, leaf):
    return {id(descend(rest, leaf)) for _ in (1,) for _ in (2,)}


def generator_expression(rest, leaf):
    return tuple(descend(rest, leaf) for _ in (1,))


# --- generators and coroutines ---------------------------------------------------------


def generator(rest, leaf):
    yield descend(rest, leaf)


def by_next(rest, leaf):
    return next(generator(rest, leaf))


def by_for(rest, leaf):
    for value in generator(rest, leaf):
        return value


def by_send(rest, leaf):
    def receives():
        value = yield
        yield descend(value, leaf)

    running = receives()
    next(running)
    return running.send(rest)


def by_throw(rest, leaf):
    def receives():
        try:
            yield
        except KeyError:
            yield descend(rest, leaf)

    running = receives()
    next(running)
    return running.throw(KeyError("thrown"))


def by_close(rest, leaf):
    def receives():
        try:
            yield
        finally:
            descend(rest, leaf)

    running = receives()
    next(running)
    return running.close()


def by_yield_from(rest, leaf):
    def inner():
        yield from generator(rest, leaf)

    def outer():
        yield from inner()

    return list(outer())


async def coroutine(rest, leaf):
    return descend(rest, leaf)


def run(awaitable):
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value


def by_coroutine(rest, leaf):
    return run(coroutine(rest, leaf))


def by_await(rest, leaf):
    async def middle():
        return await coroutine(rest, leaf)

    async def outer():
        return await middle()

    return run(outer())


async def asynchronous(rest, leaf):
    yield descend(rest, leaf)


def by_async_for(rest, leaf):
    async def outer():
        async for value in asynchronous(rest, leaf):
            return value

    return run(outer())


def by_asend(rest, leaf):
    async def outer():
        return await asynchronous(rest, leaf).asend(None)

    return run(outer())


def by_async_comprehension(rest, leaf):
    async def outer():
        return [value async for value in asynchronous(rest, leaf)]

    return run(outer())


def by_async_with(rest, leaf):
    class Manager:
        async def __aenter__(self):
            return descend(rest, leaf)

        async def __aexit__(self, *error):
            pass

    async def outer():
        async with Manager() as value:
            return value

    return run(outer())


def by_custom_await(rest, leaf):
    class Awaitable:
        def __await__(self):
            return descend(rest, leaf)
            yield

    async def outer():
        return await Awaitable()

    return run(outer())


def by_types_coroutine(rest, leaf):
    @types.coroutine
    def old_style():
        return descend(rest, leaf)
        yield

    async def outer():
        return await old_style()

    return run(outer())


def by_asyncio(rest, leaf):
    # One event loop runs in a thread at a time: a second one is a plain call.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.new_event_loop().run_until_complete(coroutine(rest, leaf))
    return descend(rest, leaf)


# --- classes ---------------------------------------------------------------------------


def by_init(rest, leaf):
    class Base:
        def __init__(self):
            self.value = descend(rest, leaf)

    class Derived(Base):
        def __init__(self):
            super().__init__()

    return Derived().value


def by_plain_init(rest, leaf):
    return Plain(rest, leaf)


class Plain:
    def __init__(self, rest, leaf):
        self.value = descend(rest, leaf)


def warm_init(rest, leaf):
    # The same call often enough to be specialised (3.13: a frame of its own for __init__).
    for n in range(100):
        Warm(n, rest, leaf)


class Warm:
    def __init__(self, n, rest, leaf):
        self.value = descend(rest, leaf) if n == 99 else None


def by_new(rest, leaf):
    class New:
        def __new__(cls):
            descend(rest, leaf)
            return object.__new__(cls)

    return New()


def class_body(rest, leaf):
    class Body:
        value = descend(rest, leaf)

        def method(self):
            pass

    return Body


def metaclass(rest, leaf):
    class Meta(type):
        def __new__(mcs, name, bases, namespace):
            descend(rest, leaf)
            return super().__new__(mcs, name, bases, namespace)

    class Made(metaclass=Meta):
        pass

    return Made


def init_subclass(rest, leaf):
    class Base:
        def __init_subclass__(cls, **kwargs):
            descend(rest, leaf)

    class Derived(Base):
        pass

    return Derived


def set_name(rest, leaf):
    class Descriptor:
        def __set_name__(self, owner, name):
            descend(rest, leaf)

    class Owner:
        attribute = Descriptor()

    return Owner


def a_property(rest, leaf):
    class Owner:
        @property
        def value(self):
            return descend(rest, leaf)

    return Owner().value


def getattr_hook(rest, leaf):
    class Owner:
        def __getattr__(self, name):
            return descend(rest, leaf)

    return Owner().missing


def getattribute_hook(rest, leaf):
    class Owner:
        def __getattribute__(self, name):
            return descend(rest, leaf)

    return Owner().anything


def setattr_hook(rest, leaf):
    class Owner:
        def __setattr__(self, name, value):
            descend(rest, leaf)

    owner = Owner()
    owner.value = 1


def descriptor(rest, leaf):
    class Descriptor:
        def __get__(self, instance, owner=None):
            return descend(rest, leaf)

    class Owner:
        value = Descriptor()

    return Owner().value


def operators(rest, leaf):
    class Number:
        def __add__(self, other):
            return descend(rest, leaf)

    return Number() + 1


def item(rest, leaf):
    class Container:
        def __getitem__(self, key):
            return descend(rest, leaf)

    return Container()[0]


def contains(rest, leaf):
    class Container:
        def __contains__(self, key):
            descend(rest, leaf)
            return True

    return 1 in Container()


def hashed(rest, leaf):
    class Key:
        def __hash__(self):
            descend(rest, leaf)
            return 1

    return {Key(): 1}


def equal(rest, leaf):
    class Key:
        def __eq__(self, other):
            descend(rest, leaf)
            return True

    return [Key()].index(1)


def truth(rest, leaf):
    class Truth:
        def __bool__(self):
            descend(rest, leaf)
            return True

    if Truth():
        return 1


def callable_object(rest, leaf):
    class Callable:
        def __call__(self, *args):
            return descend(rest, leaf)

    return Callable()(1)


def iterator(rest, leaf):
    class Iterator:
        def __iter__(self):
            return self

        def __next__(self):
            descend(rest, leaf)
            raise StopIteration

    for _ in Iterator():
        pass


def with_statement(rest, leaf):
    class Manager:
        def __enter__(self):
            return descend(rest, leaf)

        def __exit__(self, *error):
            pass

    with Manager():
        pass


def at_exit_of_with(rest, leaf):
    class Manager:
        def __enter__(self):
            pass

        def __exit__(self, *error):
            descend(rest, leaf)

    with Manager():
        pass


def context_manager(rest, leaf):
    @contextlib.contextmanager
    def manager():
        yield descend(rest, leaf)

    with manager() as value:
        return value


def deleted(rest, leaf):
    class Deleted:
        def __del__(self):
            descend(rest, leaf)

    dying = Deleted()
    del dying


def formatted(rest, leaf):
    class Text:
        def __format__(self, how):
            descend(rest, leaf)
            return "text"

    return f"{Text()}"


# --- C code that calls back ------------------------------------------------------------


def by_sorted(rest, leaf):
    return sorted([1], key=lambda _: descend(rest, leaf) is not None)


def by_list_sort(rest, leaf):
    class Ordered:
        def __lt__(self, other):
            descend(rest, leaf)
            return False

    return [Ordered(), Ordered()].sort()


def by_map(rest, leaf):
    return list(map(descend, [rest], [leaf]))


def by_filter(rest, leaf):
    return list(filter(lambda _: descend(rest, leaf), [1]))


def by_reduce(rest, leaf):
    return functools.reduce(lambda _, each: descend(each, leaf), [rest], None)


def by_max(rest, leaf):
    return max([1, 2], key=lambda _: descend(rest, leaf) or 0)


def by_re_sub(rest, leaf):
    return re.sub("x", lambda match: descend(rest, leaf) or "", "x")


def by_join(rest, leaf):
    return "".join(descend(rest, leaf) or "" for _ in (1,))


def by_iter_sentinel(rest, leaf):
    return list(iter(lambda: descend(rest, leaf), None))


def by_getattr(rest, leaf):
    return getattr(types.SimpleNamespace(call=descend), "call")(rest, leaf)


def by_type_call(rest, leaf):
    return type("Typed", (), {"__init__": lambda self: descend(rest, leaf)})()


# --- code made while running -----------------------------------------------------------


def by_eval(rest, leaf):
    return eval("descend(rest, leaf)")


def by_exec(rest, leaf):
    exec("\n\nresult = descend(\n    rest, leaf)\n", globals(), {"rest": rest, "leaf": leaf})


def by_exec_function(rest, leaf):
    source = "\n" * 299 + "def γένος(rest, leaf):\n    return descend(rest, leaf)\n"
    namespace = {"descend": descend}
    exec(compile(source, "<сделано>", "exec"), namespace)
    return namespace["γένος"](rest, leaf)


def long_jump(rest, leaf):
    # Lines and code offsets far apart: large steps in the line table, both ways.
    lines = ["def far(rest, leaf):", "    x = 1"] + [""] * 5000 + ["    x += 1"] * 400
    lines += ["    return (", "        descend(rest,", "".join([" " * 300, "leaf)"]), "    )"]
    namespace = {"descend": descend}
    exec(compile("\n".join(lines), "far.py", "exec"), namespace)
    return namespace["far"](rest, leaf)


KINDS = tuple(
    value
    for name, value in list(globals().items())
    if isinstance(value, types.FunctionType)
    and value.__module__ == __name__
    and value.__code__.co_varnames[:2] == ("rest", "leaf")
    and not value.__code__.co_flags & 0x2A0  # no generators, coroutines, async generators
    and value not in (descend, lambda_of)
)


def main_leaf():
    os.read(0, os.write(1, oracle.line(kinds=len(KINDS))) and 1)
    os._exit(0)  # and not back through all of that


def worker(started, kinds):
    descend(kinds, lambda: started.release() or oracle.GATE.acquire())


passes = int(sys.argv[1]) if len(sys.argv) > 1 else 2
sys.setrecursionlimit(10000)
threading.stack_size(64 << 20)
oracle.wait([oracle.start(worker, (KINDS[::-1] * passes,), "mixed")])
descend(KINDS * passes, main_leaf)
