# SPDX-License-Identifier: MIT
"""Vector 0: the events register, the record of refused DMA, and the gate before all interrupts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from emulator.nic.identity import EVENT_VECTOR
from emulator.nic.registers import (
    DMABED_EVENT_DMA_FAULT,
    DMABED_FAULT_INFO_COUNT,
    DMABED_FAULT_INFO_TX,
    DMABED_FAULT_INFO_WRITE,
)
from emulator.ports import IrqPort

COUNT_SHIFT = (DMABED_FAULT_INFO_COUNT & -DMABED_FAULT_INFO_COUNT).bit_length() - 1
STAGE_SHIFT = 8
COUNT_MAX = DMABED_FAULT_INFO_COUNT >> COUNT_SHIFT


class Stage(IntEnum):
    """FAULT_INFO.stage: what the device was doing."""

    DESCRIPTOR = 0
    PAYLOAD = 1
    COMPLETION = 2


@dataclass(frozen=True, slots=True)
class RefusedDma:
    """``count`` refused accesses of one kind, the first of them at ``iova``."""

    queue: int
    stage: Stage
    tx: bool
    write: bool
    iova: int
    count: int = 1


class IrqGate:
    """An interrupt is a memory write: while bus mastering is off, it waits here."""

    def __init__(self, irq: IrqPort) -> None:
        self._irq = irq
        self._open = False
        self._held: set[int] = set()

    def raise_vector(self, vector: int) -> None:
        """Raises ``vector`` now, or when the gate opens."""
        if self._open:
            self._irq.raise_vector(vector)
        else:
            self._held.add(vector)

    def bus_master(self, on: bool) -> None:
        """Opens or closes the gate; opening it raises what waited, in order of vector."""
        self._open = on
        if on:
            held, self._held = sorted(self._held), set()
            for vector in held:
                self._irq.raise_vector(vector)

    def reset(self) -> None:
        """Forgets what waits."""
        self._held.clear()


class Events:
    """Registers EVENT, EVENT_MASK and FAULT_*."""

    def __init__(self, gate: IrqGate) -> None:
        self._gate = gate
        self.pending = self.mask = self.fault_iova = self._what = self._count = 0

    def reset(self) -> None:
        """Nothing pending, everything masked."""
        self.pending = self.mask = 0
        self._forget_fault()

    def raise_event(self, bits: int) -> None:
        """Sets ``bits`` of EVENT; vector 0 if one that is enabled was clear."""
        new = bits & ~self.pending
        self.pending |= bits
        if new & self.mask:
            self._gate.raise_vector(EVENT_VECTOR)

    def set_mask(self, bits: int) -> None:
        """The driver wrote ``bits`` to EVENT_MASK; what is pending already raises nothing."""
        self.mask = bits

    def clear(self, bits: int) -> None:
        """The driver wrote ``bits`` to EVENT."""
        self.pending &= ~bits
        if bits & DMABED_EVENT_DMA_FAULT:
            self._forget_fault()

    def dma_refused(self, refused: RefusedDma) -> None:
        """Counts ``refused``, and keeps it if it is the first since the record was cleared."""
        if not self._count:
            self.fault_iova = refused.iova
            self._what = (
                refused.queue
                | refused.stage << STAGE_SHIFT
                | (DMABED_FAULT_INFO_TX if refused.tx else 0)
                | (DMABED_FAULT_INFO_WRITE if refused.write else 0)
            )
        self._count = min(COUNT_MAX, self._count + refused.count)
        self.raise_event(DMABED_EVENT_DMA_FAULT)

    @property
    def fault_info(self) -> int:
        """Register FAULT_INFO."""
        return self._what | self._count << COUNT_SHIFT

    def _forget_fault(self) -> None:
        self.fault_iova = self._what = self._count = 0
