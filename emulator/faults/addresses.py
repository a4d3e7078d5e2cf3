# SPDX-License-Identifier: MIT
"""X-1 to X-11: DMA where the device has no business. Each access is one of the device's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.faults.fault import Fault, Outcome
from emulator.faults.ports import DmaLayer, Ports
from emulator.frames import FrameBatch
from emulator.iommu.mapping import IOVA_END, PAGE_SHIFT, PAGE_SIZE
from emulator.ports import DmaPort, RingKind

Target = tuple[int, int, bool]
PROBE = 8
"""Bytes of one access."""
PER_STRIKE = 4


class RogueAccess(Fault):
    """Accesses ``targets`` when it strikes; without any it waits for the next step."""

    expect: ClassVar[frozenset[Outcome]] = frozenset({Outcome.REFUSED})
    closed_gate: ClassVar[bool] = False

    def targets(self) -> list[Target]:
        """(iova, length, write) of the accesses to make now."""
        raise NotImplementedError

    def act(self, now_ns: int) -> int | None:
        """See :class:`Fault`."""
        if self.trigger.exhausted or self.bench.mastering is self.closed_gate:
            return None
        targets = self.targets()[:PER_STRIKE]
        if targets and self.trigger.strikes(now_ns):
            self.attempt(targets)
        return None

    def dead(self, iova: int) -> bool:
        """Whether the device has no mapping there."""
        return all(not m.iova <= iova < m.end for m in self.bench.live())


class StaleAccess(RogueAccess):
    """Buffers that were posted once and are unmapped by now."""

    number, name = "X-1", "stale-access"
    shows = "a device that uses a buffer after its unmap is refused, or its stale window is seen"
    default = "times = 8"

    def targets(self) -> list[Target]:
        """Both ways, the newest buffers first."""
        live = {m.iova >> PAGE_SHIFT for m in self.bench.live()}
        gone = [b.iova for b in reversed(self.bench.watch.seen) if b.iova >> PAGE_SHIFT not in live]
        return [(iova, PROBE, write) for iova in gone[:2] for write in (False, True)]


class ReusedAddress(RogueAccess):
    """An old descriptor's IOVA that has been mapped anew since: valid, but not what was meant."""

    number, name = "X-2", "reused-address"
    shows = "an IOVA used with an old descriptor is another mapping by now: its generation tells"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED})
    default = "times = 4"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._known: dict[int, int] = {}

    def targets(self) -> list[Target]:
        """Reads: a write would be seen as the other owner's data."""
        owners = {m.iova >> PAGE_SHIFT: m.generation for m in self.bench.live()}
        reused = []
        for buffer in self.bench.watch.seen:
            page = buffer.iova >> PAGE_SHIFT
            generation = owners.get(page)
            if generation is not None and self._known.setdefault(page, generation) != generation:
                reused.append((buffer.iova, PROBE, False))
        return reused


class _WritingDma(DmaLayer):
    def __init__(self, port: DmaPort, fault: ReadOnlyWrite) -> None:
        super().__init__(port)
        self._fault = fault

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        self._fault.sending(iovas)
        return self.port.gather(iovas, lengths)


class ReadOnlyWrite(Fault):
    """A write to a frame that the device is about to send, and may only read."""

    number, name = "X-3", "read-only-write"
    shows = "what is mapped for transmission cannot be written"

    expect = frozenset({Outcome.REFUSED})

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, dma=_WritingDma(ports.dma, self))

    def sending(self, iovas: NDArray[np.uint64]) -> None:
        """Frames at ``iovas`` are about to be read."""
        if self.trigger.strikes(self.bench.now_ns):
            self.attempt((iova, PROBE, True) for iova in iovas[:PER_STRIKE].tolist())


class WriteOnlyRead(RogueAccess):
    """A read from a receive buffer."""

    number, name = "X-4", "write-only-read"
    shows = "what is mapped for reception cannot be read, where the IOMMU tells reads from writes"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED})

    def targets(self) -> list[Target]:
        """Receive buffers the device owns."""
        return [(b.iova, PROBE, False) for b in self.bench.watch.owned(RingKind.RX_DESC)]


class WildAddress(RogueAccess):
    """Addresses that no driver ever gave: 0, the last ones, beyond 48 bits, non-canonical."""

    number, name = "X-5", "wild-address"
    shows = "an address that was never mapped is refused, once each, and nothing else happens"
    default = "times = 2"

    def targets(self) -> list[Target]:
        """Those of them that are not mapped, alternately read and written."""
        wild = (0, IOVA_END - PROBE, 1 << 57, 0x8000_0000_0000, 0xFFFF_8000_0000_0000)
        dead = [iova for iova in wild if self.dead(iova)]
        turn = self.trigger.seen % 2
        return [(iova, PROBE, (row + turn) % 2 == 0) for row, iova in enumerate(dead)]


class CrossingAccess(RogueAccess):
    """Ranges that begin in a mapping and leave it, cross 4 GiB, or wrap around."""

    number, name = "X-6", "crossing-access"
    shows = "a range that leaves its mapping is refused whole"

    def targets(self) -> list[Target]:
        """Half before the edge, half behind it."""
        half = PROBE // 2
        edges = [m.end for m in self.bench.live() if m.end < IOVA_END and self.dead(m.end)]
        ranges = [*edges[:2], *(e for e in (1 << 32, IOVA_END) if self.dead(e - half))]
        return [(edge - half, PROBE, True) for edge in ranges]


class OddShape(RogueAccess):
    """No bytes at all, odd lengths and addresses, a piece across a page border."""

    number, name = "X-7", "odd-shape"
    shows = "an empty access is refused; odd ones in the device's own buffer touch just their bytes"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED})

    def targets(self) -> list[Target]:
        """Within a posted buffer, whose bytes are the device's to write."""
        owned = self.bench.watch.owned(RingKind.RX_DESC)
        if not owned:
            return []
        iova = owned[-1].iova
        return [(iova, 0, True), (iova + 1, 1, True), (iova + 3, 13, True)]


class OtherDevice(RogueAccess):
    """An IOVA that only another device has mapped."""

    number, name = "X-8", "other-device"
    shows = "one NIC cannot use the mappings of the other; the ledger names both"

    def targets(self) -> list[Target]:
        """Read and written."""
        theirs = [m.iova for m in self.bench.foreign() if self.dead(m.iova)]
        return [(iova, PROBE, write) for iova in theirs[:2] for write in (False, True)]


class GuestPhysical(RogueAccess):
    """The guest's physical address of a buffer in place of its IOVA."""

    number, name = "X-9", "guest-physical"
    shows = "guessing that IOVAs are physical addresses does not work"

    def targets(self) -> list[Target]:
        """Pages that are mapped somewhere, by their place in guest memory."""
        places = [m.offset for m in self.bench.live() if m.memory is not None]
        return [(place, PROBE, True) for place in places if place >= PAGE_SIZE and self.dead(place)]


class BeforeBusMaster(RogueAccess):
    """DMA while bus mastering is off."""

    number, name = "X-10", "before-bus-master"
    shows = "without bus mastering no access gets through, whatever is mapped"
    closed_gate = True
    default = "times = 4"

    def act(self, now_ns: int) -> int | None:
        """See :class:`Fault`: the gate is closed when the driver is not there."""
        return super().act(now_ns)

    def targets(self) -> list[Target]:
        """Anything: live mappings first."""
        places: Iterator[int] = (m.iova for m in self.bench.live())
        return [(iova, PROBE, True) for iova in [*places, PAGE_SIZE]]


class AfterStop(RogueAccess):
    """A write to a buffer whose ring has been stopped."""

    number, name = "X-11", "after-stop"
    shows = "after a ring is stopped its buffers are the driver's: a late write meets no mapping"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED, Outcome.DETECTED})
    default = "times = 4"

    def targets(self) -> list[Target]:
        """Buffers of stopped rings that are not posted again."""
        watch = self.bench.watch
        stopped = [b for b in watch.seen if (b.queue, b.kind) not in watch.rings]
        return [(b.iova, PROBE, b.kind is RingKind.RX_DESC) for b in reversed(stopped)]
