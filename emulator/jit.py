# SPDX-License-Identifier: MIT
"""Compiled loops: what the hot paths do per packet, where numpy would need a call per step.

A batch is small (a NAPI poll: 64 packets), so what counts is the number of calls, not the work in
them: one compiled loop costs 0.5 us where a dozen array operations cost 5 to 10. Numba compiles a
kernel at its first call for the types it is given and keeps the result beside the source;
:mod:`emulator.warm` makes those first calls before a guest waits.

Rules for kernels: arrays and numbers only, one result; sizes and indices that come from a guest are
checked inside, as compiled code does not check them; no kernel calls one of another file, since the
kept result of the caller would not notice a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

KERNELS: list[Any] = []
"""Every kernel, as numba's dispatcher."""


def kernel(function: F) -> F:
    """``function``, compiled to machine code when it is first called."""
    KERNELS.append(numba.njit(cache=True)(function))
    return cast(F, KERNELS[-1])
