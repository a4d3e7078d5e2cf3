# SPDX-License-Identifier: MIT
"""What a rung can see. A rule names the signals it needs; without one of them it does not judge."""

from __future__ import annotations

from enum import StrEnum


class Signal(StrEnum):
    """A kind of evidence; the value is how a report calls it.

    MAP and DMA are there wherever a ledger is. The others are there once the rung has told of them
    or has promised them (:meth:`emulator.ledger.device.DeviceLedger.provides`).
    """

    MAP = "maps and unmaps"
    DMA = "accesses of the device"
    RING = "ring events of the device model"
    CFG = "configuration writes"
    MMIO = "the driver's ARM writes"
    IRQ = "interrupts"
    MARK = "the driver's notes"
    TRACE = "the guest's tracepoints"
    STACK = "what the stack holds"
    PAYLOAD = "late payload checks"
    POOL = "page_pool counts"
    TIMES = "times of operations"
    CHECKERS = "the guest's checkers"


ALWAYS = frozenset({Signal.MAP, Signal.DMA})
FROM_TRACE = frozenset({Signal.TRACE, Signal.POOL, Signal.STACK})
"""What only a trace without a gap can tell."""
