# SPDX-License-Identifier: MIT
"""Which register of which queue pair an offset in BAR0 is."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from emulator.nic.registers import MAP, qp_base


class QueueRegister(NamedTuple):
    """Register ``name`` of queue pair ``queue``."""

    queue: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} of queue {self.queue}"


@cache
def _names() -> dict[int, str]:
    return {register.offset: register.name for register in MAP.queue_registers}


def place_of(offset: int) -> QueueRegister | None:
    """The queue pair's register at ``offset``; None: it is none, or lies before the pairs."""
    if offset < MAP.queue_base:
        return None
    queue, within = divmod(offset - MAP.queue_base, MAP.queue_stride)
    name = _names().get(within)
    return None if name is None else QueueRegister(queue, name)


def offset_of(queue: int, name: str) -> int:
    """The inverse of :func:`place_of`; KeyError if there is no such register."""
    return qp_base(queue) + {known: at for at, known in _names().items()}[name]
