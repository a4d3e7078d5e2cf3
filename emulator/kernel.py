# SPDX-License-Identifier: MIT
"""Kernels: one source for what runs interpreted in a driver and compiled in the twin.

A kernel is a plain Python function over arrays and named tuples of arrays. Called from Python it is
just that: the Python driver calls it, a debugger steps into it. Called from a function under
:func:`compiled` it becomes part of the machine code that Numba makes of the caller, so the twin's
inner loop costs a few ns for each packet although nothing was written twice.

A state is a named tuple of arrays. Compiled code gets it as one :func:`packed` record, a pointer:
named tuples would be taken apart into their arrays, and those into pointers, lengths and reference
counts, at every call.

A :func:`generic` is a kernel with one implementation for each type of its first argument: a
buffer strategy's state, or what plays the host. Both worlds choose by that type; in compiled code
the choice is made when it is compiled and costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast

import numba
import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

S = TypeVar("S", bound=tuple[Any, ...])

_BORROWED: dict[str, Any] = {"_nrt": False}
"""Numba counts no references: kernels only use arrays that their caller holds and make none. The
counting is atomic and costs some ten times what the kernels themselves do."""

_KEEP_S = 30 * 86400
_ROOT = Path(__file__).resolve().parent.parent


def _source_digest() -> str:
    """Of all that compiled code can be made of.

    Numba's cache looks at the file of the function it compiled, not at those of the kernels that
    became part of it: a change there would go unseen.
    """
    digest = hashlib.sha256()
    for package in ("emulator", "pool", "driver", "testbed"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            text = path.read_bytes()
            if b"emulator.kernel" in text:
                digest.update(path.as_posix().encode() + text)
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """For the machine code of these sources; what no source has asked for in a month goes."""
    root = os.environ.get("DMABED_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kernels = (Path(root) if root else base / "dmabed") / "kernels"
    folder = kernels / _source_digest()
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()
    for other in kernels.iterdir():
        if other.stat().st_mtime < folder.stat().st_mtime - _KEEP_S:
            shutil.rmtree(other, ignore_errors=True)
    return folder


if "NUMBA_CACHE_DIR" not in os.environ:
    vars(numba.config)["CACHE_DIR"] = str(_cache_folder())


def _mangled_record(record: types.Record) -> tuple[str, tuple[int, ...]]:
    """What stands for a record in the names of machine code: a digest of its fields.

    Numba takes a number that it gives to types as they come. Two processes give the same number
    to different records; whoever loads what both have cached links one to the code of the other.
    """
    digest = hashlib.sha256(record.name.encode()).digest()
    return type(record).__name__, (int.from_bytes(digest[:15]),)


types.Record.mangling_args = property(_mangled_record)  # type: ignore[method-assign, assignment]


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that Python calls and Numba compiles, once for each set of argument types.

    The machine code is kept between processes, in a folder named by the kernels' sources. It
    works on the arrays it is given: making one in here is refused when it is compiled.
    """
    return cast("Callable[P, R]", numba.njit(cache=True, nogil=True, **_BORROWED)(function))


LOOPS: list[Any] = []
"""Every compiled loop, as Numba's dispatcher."""


def loop(function: F) -> F:
    """A function that Python calls with a batch's arrays, compiled: a loop of the packet path.

    A batch is small (a NAPI poll: 64 packets), so what counts is the number of calls: one compiled
    loop costs 0.5 us where a dozen array operations cost 5 to 10. Sizes and indices that come from
    a guest are checked inside, as compiled code does not check them. :mod:`emulator.warm` makes the
    first call of each before a guest waits.
    """
    LOOPS.append(numba.njit(cache=True)(function))
    return cast("F", LOOPS[-1])


def kernel(function: F) -> F:
    """Marks a function that compiled code may call; from Python it stays what it is."""
    return register_jitable(**_BORROWED)(function)


class GenericKernel(Generic[P, R]):
    """See :func:`generic`."""

    def __init__(self, call: Callable[P, R], table: dict[type, Callable[..., Any]]) -> None:
        self.call, self._table = call, table

    def implement(self, state: type) -> Callable[[F], F]:
        """Decorates the implementation for a first argument of type ``state``.

        Its parameters have the names of the generic's.
        """

        def register(function: F) -> F:
            self._table[state] = function
            return function

        return register


def generic(stub: Callable[P, R]) -> tuple[Callable[P, R], Callable[[type], Callable[[F], F]]]:
    """Makes a generic kernel of a function without a body; returns it and its ``implement``.

    Raises:
        NotImplementedError: (when called) nothing implements it for that type.
    """
    table: dict[type, Callable[..., Any]] = {}
    names = ", ".join(signature(stub).parameters)
    first = next(iter(signature(stub).parameters))
    scope: dict[str, Any] = {
        "table": table,
        "missing": _missing,
        "what": stub.__name__,
        "state_of": _state_of,
    }
    # The two functions must have the very parameters of the stub: Numba compares them.
    exec(
        f"def {stub.__name__}({names}):\n"
        f"    return table.get(type({first}), missing(what, type({first})))({names})\n"
        f"def choose({names}):\n"
        f"    return table.get(state_of({first}))\n",
        scope,
    )
    call = scope[stub.__name__]
    call.__doc__, call.__module__ = stub.__doc__, stub.__module__
    overload(call, strict=False, jit_options=cast("Any", _BORROWED))(scope["choose"])
    return cast("Callable[P, R]", call), GenericKernel(call, table).implement


_STATES: dict[Any, type] = {}
"""The named tuple that each record type was made of."""


def packed(state: S) -> tuple[S, Any]:
    """The arrays of ``state``, nested named tuples included, moved into one record.

    Returns the named tuple of views into it, for kernels called from Python, and the record, for
    compiled ones. States with arrays of the same shapes share their machine code.
    """
    memory = np.zeros(1, _dtype_of(state))
    views = _fill(state, memory[0])
    return cast("S", views), memory[0]


def _dtype_of(state: Any) -> np.dtype[Any]:  # noqa: ANN401
    parts = [
        (name, _dtype_of(part)) if isinstance(part, tuple) else (name, part.dtype, part.shape)
        for name, part in zip(state._fields, state, strict=True)
    ]
    dtype = np.dtype(parts, align=True)
    _STATES[numba.from_dtype(dtype)] = type(state)
    return dtype


def _fill(state: Any, record: Any) -> Any:  # noqa: ANN401
    """A named tuple like ``state`` of views into ``record``, which gets its contents."""
    views = []
    for name, part in zip(state._fields, state, strict=True):
        if isinstance(part, tuple):
            views.append(_fill(part, record[name]))
        else:
            record[name][...] = part
            views.append(record[name])
    return type(state)(*views)


def _state_of(argument: Any) -> type | None:  # noqa: ANN401
    """The named tuple that a type known to Numba stands for."""
    return getattr(argument, "instance_class", None) or _STATES.get(argument)


def _missing(what: str, state: type) -> Callable[..., Any]:
    def refuse(*_arguments: object) -> None:
        raise NotImplementedError(f"{what} is not implemented for {state.__name__}")

    return refuse
