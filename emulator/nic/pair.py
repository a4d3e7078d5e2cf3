# SPDX-License-Identifier: MIT
"""A queue pair: both rings, their statistics and their one interrupt, behind its registers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from emulator.nic.config import NicConfig
from emulator.nic.engine import QueueContext, RingEngine
from emulator.nic.events import Events, IrqGate
from emulator.nic.identity import FIRST_QUEUE_VECTOR
from emulator.nic.mmio import RegisterFile
from emulator.nic.moderation import Moderation
from emulator.nic.registers import (
    DMABED_QP_ARM_RX_SEEN,
    DMABED_QP_MODERATION_USECS,
    DMABED_QP_RX_CTRL_ENABLE,
    DMABED_QP_RX_CTRL_RUNNING,
)
from emulator.nic.rx import Receiver
from emulator.nic.stats import QueueStats
from emulator.nic.tx import Transmitter
from emulator.nic.wire.base import Wire
from emulator.ports import DmaPort, Observer

SEEN_MASK: Final = DMABED_QP_ARM_RX_SEEN
"""ARM counts modulo 2^16; the receive count is the lower field."""

FRAMES_SHIFT: Final = DMABED_QP_MODERATION_USECS.bit_length()

RING_REGISTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        f"{side}_{name}": side
        for side in ("RX", "TX")
        for name in ("RING_LO", "RING_HI", "CQ_LO", "CQ_HI", "SIZE")
    }
)
"""Registers that are read-only while the ring of the side they belong to runs."""


class QueuePair:
    """Queue pair ``queue`` of a NIC."""

    def __init__(
        self,
        queue: int,
        config: NicConfig,
        dma: DmaPort,
        observer: Observer,
        events: Events,
        gate: IrqGate,
        wire: Wire,
    ) -> None:
        self._vector, self._gate = FIRST_QUEUE_VECTOR + queue, gate
        self._queue, self._observer = queue, observer
        self.stats = QueueStats()
        self.moderation = Moderation(self._interrupt)
        context = QueueContext(
            queue, config, dma, observer, events, self.stats, self.moderation.completed
        )
        self.rx = Receiver(context)
        self.tx = Transmitter(context, wire)
        self._sides: Mapping[str, RingEngine] = {"RX": self.rx, "TX": self.tx}

    def side(self, register: str) -> RingEngine:
        """The side that ``register``, RX_... or TX_..., belongs to."""
        return self._sides[register[:2]]

    def locked(self, register: str) -> bool:
        """Whether ``register`` is read-only for now."""
        side = RING_REGISTERS.get(register)
        return side is not None and self._sides[side].ring.running

    def control(self, register: str) -> int:
        """What RX_CTRL or TX_CTRL reads: a ring that stopped by itself is no longer enabled."""
        running = self.side(register).ring.running
        return DMABED_QP_RX_CTRL_ENABLE | DMABED_QP_RX_CTRL_RUNNING if running else 0

    def set_control(self, register: str, value: int, file: RegisterFile, now_ns: int) -> None:
        """The driver wrote RX_CTRL or TX_CTRL; ``file`` holds the ring registers."""
        engine, side = self.side(register), register[:2]
        enable = bool(value & DMABED_QP_RX_CTRL_ENABLE)
        if enable and not engine.ring.running:

            def wide(name: str) -> int:
                low, high = (
                    file.get(f"{side}_{name}_{half}", self._queue) for half in ("LO", "HI")
                )
                return high << 32 | low

            engine.start(wide("RING"), wide("CQ"), file.get(f"{side}_SIZE", self._queue), now_ns)
        elif not enable:
            engine.stop(now_ns)
            self._settle()

    def moderate(self, value: int) -> None:
        """The driver wrote MODERATION."""
        self.moderation.configure(value & DMABED_QP_MODERATION_USECS, value >> FRAMES_SHIFT)

    def arm(self, value: int, now_ns: int) -> None:
        """The driver wrote ARM."""
        rx, tx = self.rx.ring, self.tx.ring
        done = rx.completed & SEEN_MASK | (tx.completed & SEEN_MASK) << 16
        sizes = rx.size if rx.running else 0, tx.size if tx.running else 0
        self._observer.armed(now_ns, self._queue, value, done, sizes)
        self.moderation.arm(all_seen=value == done)

    def reset(self, now_ns: int) -> None:
        """Rings stopped, counts 0, disarmed."""
        self.rx.reset(now_ns)
        self.tx.reset(now_ns)
        self.moderation.reset()
        self.stats.clear()

    def _settle(self) -> None:
        """A pair without a running ring has nothing to announce."""
        if not (self.rx.ring.running or self.tx.ring.running):
            self.moderation.forget()

    def _interrupt(self) -> None:
        self.stats.interrupts += 1
        self._gate.raise_vector(self._vector)
