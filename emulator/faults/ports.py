# SPDX-License-Identifier: MIT
"""The ways in which a NIC meets the world, as wrappers see them, and wrappers that change nothing.

:class:`Ports` bundles them. A fault takes a bundle and returns one in which those that it spoils
are wrapped; the layers here are what it derives from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.nic.bus import NicBus
from emulator.ports import DmaPort, IrqPort, Observer, RingKind

RingKey = tuple[int, RingKind]
"""Queue and ring."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Completions about to become visible: entries ``index`` and following of a queue's ring.

    entries: structured array of the COMPLETION layout, phase bits set; a copy, to be changed at
    will. ring_iova, size: of the completion ring, in bytes and entries.
    """

    queue: int
    tx: bool
    ring_iova: int
    size: int
    index: int
    entries: NDArray[Any]

    @property
    def kind(self) -> RingKind:
        """Which ring of the queue."""
        return RingKind.TX_CQ if self.tx else RingKind.RX_CQ

    def iova(self, index: int) -> int:
        """Of entry ``index``, counted since the ring was started."""
        return self.ring_iova + index % self.size * self.entries.itemsize

    def phase(self, index: int) -> int:
        """Phase bit that entry ``index`` carries when it is new."""
        return 1 - (index // self.size & 1)


class CompletionPort(Protocol):
    """Where completions go when they are published."""

    def publish(self, batch: Publication) -> None:
        """Makes ``batch`` visible to the driver.

        Raises:
            DmaFault: the ring is not mapped.
        """
        ...


class MapPort(Protocol):
    """How the host maps and unmaps: what an IOMMU does before it answers."""

    def mapping(self, iova: int, size: int, now_ns: int) -> None:
        """A map was asked for.

        Raises:
            VfioUserError: it is refused.
        """
        ...

    def unmapping(self, iova: int, size: int, now_ns: int) -> int:
        """An unmap was asked for; returns ns to wait longer than usual before the answer.

        Raises:
            VfioUserError: it is refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All of them, of one NIC."""

    dma: DmaPort
    irq: IrqPort
    observer: Observer
    bus: NicBus
    completions: CompletionPort
    maps: MapPort


class DmaLayer:
    """A :class:`~emulator.ports.DmaPort` that hands on to ``port``."""

    def __init__(self, port: DmaPort) -> None:
        self.port = port

    def read(self, iova: int, length: int) -> bytes:
        """See :class:`~emulator.ports.DmaPort`."""
        return self.port.read(iova, length)

    def write(self, iova: int, data: bytes | NDArray[np.uint8]) -> None:
        """See :class:`~emulator.ports.DmaPort`."""
        self.port.write(iova, data)

    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        """See :class:`~emulator.ports.DmaPort`."""
        return self.port.scatter(iovas, frames)

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        """See :class:`~emulator.ports.DmaPort`."""
        return self.port.gather(iovas, lengths)


class IrqLayer:
    """An :class:`~emulator.ports.IrqPort` that hands on to ``port``."""

    def __init__(self, port: IrqPort) -> None:
        self.port = port

    def raise_vector(self, vector: int) -> None:
        """See :class:`~emulator.ports.IrqPort`."""
        self.port.raise_vector(vector)


class BusLayer:
    """A :class:`~emulator.nic.bus.NicBus` that hands on to ``port``."""

    def __init__(self, port: NicBus) -> None:
        self.port = port

    def mmio_read(self, offset: int, size: int) -> int:
        """See :class:`~emulator.nic.bus.NicBus`."""
        return self.port.mmio_read(offset, size)

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self.port.mmio_write(offset, value, size, now_ns)

    def step(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        return self.port.step(now_ns)

    def bus_master(self, on: bool, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self.port.bus_master(on, now_ns)

    def power_reset(self, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self.port.power_reset(now_ns)

    def link(self, up: bool, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self.port.link(up, now_ns)


class ObserverLayer:
    """An :class:`~emulator.ports.Observer` that hands on to ``port``.

    A wrapper overrides the hooks below; the signatures of the port are stated here alone.
    """

    def __init__(self, port: Observer) -> None:
        self.port = port

    # ------------------------------------------------------------------ hooks, called before
    def passes(self, key: RingKey) -> bool:
        """Whether what a ring does, but for its start, is handed on."""
        return True

    def starting(self, key: RingKey, iova: int, size: int, now_ns: int) -> None:
        """A ring of ``size`` bytes starts."""

    def stopping(self, key: RingKey, now_ns: int) -> None:
        """A ring stops."""

    def posting(self, key: RingKey, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """Buffers go to the device."""

    def returning(self, key: RingKey, count: int) -> None:
        """Buffers go back, the oldest first."""

    def completed(self, queue: int, done: int) -> int:
        """What is told of the completions written so far: ``done``, as ARM has it."""
        return done

    # ------------------------------------------------------------------ the port
    def ring_started(self, now_ns: int, queue: int, kind: RingKind, iova: int, size: int) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.starting((queue, kind), iova, size, now_ns)
        self.port.ring_started(now_ns, queue, kind, iova, size)

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.stopping((queue, kind), now_ns)
        if self.passes((queue, kind)):
            self.port.ring_stopped(now_ns, queue, kind)

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.posting((queue, kind), iovas, lengths)
        if self.passes((queue, kind)):
            self.port.posted(now_ns, queue, kind, iovas, lengths)

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.returning((queue, kind), len(iovas))
        if self.passes((queue, kind)):
            self.port.returned(now_ns, queue, kind, iovas, lengths)

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.port.packets(now_ns, queue, kind, count)

    def armed(self, now_ns: int, queue: int, seen: int, done: int, sizes: tuple[int, int]) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.port.armed(now_ns, queue, seen, self.completed(queue, done), sizes)

    def note(self, now_ns: int, value: int) -> None:
        """See :class:`~emulator.ports.Observer`."""
        self.port.note(now_ns, value)


class PlainMaps:
    """A :class:`MapPort` that lets everything pass."""

    def mapping(self, iova: int, size: int, now_ns: int) -> None:
        """See :class:`MapPort`."""

    def unmapping(self, iova: int, size: int, now_ns: int) -> int:
        """See :class:`MapPort`."""
        return 0
