# SPDX-License-Identifier: MIT
"""X-16 to X-20 and X-48: frames that land wrong, late, too long, or not at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emulator.faults.addresses import RogueAccess, Target
from emulator.faults.fault import Fault, Outcome
from emulator.faults.ports import DmaLayer, Ports
from emulator.faults.trigger import NS_PER_US
from emulator.frames import FrameBatch
from emulator.iommu.mapping import PAGE_MASK, PAGE_SIZE
from emulator.ports import DmaFault, DmaPort, RingKind


class _PayloadDma(DmaLayer):
    def __init__(self, port: DmaPort, fault: PayloadFault) -> None:
        super().__init__(port)
        self._fault = fault

    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        return self._fault.scatter(self.port, iovas, frames)


class PayloadFault(Fault):
    """Spoils received frames on their way into memory; strikes by frame."""

    expect = frozenset({Outcome.DETECTED})
    default = "nth = 100\ntimes = 3"

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, dma=_PayloadDma(ports.dma, self))

    def scatter(
        self, port: DmaPort, iovas: NDArray[np.uint64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        """Hands on what is not struck, and spoils the rest."""
        now_ns = self.bench.now_ns
        struck = np.array([self.trigger.strikes(now_ns) for _ in range(len(frames))], np.bool_)
        if not struck.any():
            return port.scatter(iovas, frames)
        done = np.ones(len(frames), np.bool_)
        done[~struck] = port.scatter(iovas[~struck], frames[~struck])
        done[struck] = self.spoil(port, iovas[struck], frames[struck])
        return done

    def spoil(
        self, port: DmaPort, iovas: NDArray[np.uint64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        """Does to ``frames`` what the fault does; returns bool[n] as scatter."""
        raise NotImplementedError


class OverlongWrite(PayloadFault):
    """Behind each struck frame, ``amount`` bytes more (4096): beyond the buffer and its page."""

    number, name = "X-16", "overlong-write"
    shows = "what is longer than its buffer is refused at the page's edge; within, nothing stops it"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED, Outcome.DETECTED})

    def spoil(
        self, port: DmaPort, iovas: NDArray[np.uint64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        """The frame is whole; the excess goes first, as it would in a burst that runs on."""
        more = self.amount(PAGE_SIZE)
        ends = (iovas + frames.lengths.astype(np.uint64)).tolist()
        self.attempt((end, more, True) for end in ends)
        return port.scatter(iovas, frames)


class ShortWrite(PayloadFault):
    """Half a frame is written, the whole is reported."""

    number, name = "X-17", "short-write"
    shows = "old bytes of the buffer pass for the frame's end: only its checksum tells"

    def spoil(
        self, port: DmaPort, iovas: NDArray[np.uint64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        """The first half of each."""
        self.did(f"{len(frames)} frames written by half")
        return port.scatter(iovas, FrameBatch(frames.data, frames.offsets, frames.lengths // 2))


class PageScan(RogueAccess):
    """Reads the rest of the page around a posted buffer; ``amount`` 1: writes to it."""

    number, name = "X-18", "page-scan"
    shows = "how much beside its buffer a device can reach: a mapping is a page, a buffer is not"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED})

    def targets(self) -> list[Target]:
        """Before the buffer and behind it."""
        write, found = bool(self.amount(0)), []
        for buffer in self.bench.watch.owned(RingKind.RX_DESC)[-2:]:
            page, end = buffer.iova & ~PAGE_MASK, buffer.iova + buffer.length
            found.append((page, buffer.iova - page, write))
            found.append((end, page + PAGE_SIZE - end, write))
        return [target for target in found if target[1] > 0]


class BitFlip(PayloadFault):
    """One bit of each struck frame is wrong; which one, the seed says."""

    number, name = "X-19", "bit-flip"
    shows = "a damaged payload is the checksum's matter: driver and ledger cannot see it"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._random = np.random.default_rng(self.spec.amount or 1)

    def spoil(
        self, port: DmaPort, iovas: NDArray[np.uint64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        """In the second half, so that the headers stay as they are."""
        spoilt = []
        for frame in frames:
            raw = bytearray(frame)
            at = int(self._random.integers(len(raw) // 2, len(raw)))
            raw[at] ^= 1 << int(self._random.integers(8))
            spoilt.append(bytes(raw))
            self.did(f"bit flipped in byte {at} of {len(raw)}")
        return port.scatter(iovas, FrameBatch.of(spoilt))


class LateWrite(PayloadFault):
    """The frame lands ``amount`` us (200) after its completion."""

    number, name = "X-20", "late-write"
    shows = "a write that was under way at an unmap and lands after it is refused"
    expect = frozenset({Outcome.DETECTED, Outcome.REFUSED})

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._held: list[tuple[int, int, bytes]] = []

    def spoil(
        self, port: DmaPort, iovas: NDArray[np.uint64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        """Nothing is written yet."""
        due_ns = self.bench.now_ns + self.amount(200) * NS_PER_US
        self._held += [(due_ns, i, f) for i, f in zip(iovas.tolist(), frames, strict=True)]
        self.did(f"{len(frames)} frames held back")
        return np.ones(len(frames), np.bool_)

    def act(self, now_ns: int) -> int | None:
        """Lands what is due."""
        due = [held for held in self._held if held[0] <= now_ns]
        self._held = [held for held in self._held if held[0] > now_ns]
        with self.bench.by_order(self):
            for _, iova, frame in due:
                try:
                    self.bench.base.dma.write(iova, frame)
                    self.landed += 1
                except DmaFault as fault:
                    self.refused += 1
                    self.did(f"late write at {iova:#x} refused: {fault.reason}")
        return min((held[0] for held in self._held), default=None)


class _RefusingDma(DmaLayer):
    def __init__(self, port: DmaPort, fault: CompletionTimeout) -> None:
        super().__init__(port)
        self._fault = fault

    def read(self, iova: int, length: int) -> bytes:
        if self._fault.hits():
            raise DmaFault(iova, length, False, "completion timeout, by order")
        return self.port.read(iova, length)

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        frames, done = self.port.gather(iovas, lengths)
        if self._fault.hits():
            return frames, np.zeros(len(iovas), np.bool_)
        return frames, done


class CompletionTimeout(Fault):
    """A read of the device is never answered: of descriptors, or of frames to send."""

    number, name = "X-48", "completion-timeout"
    shows = "a device whose reads fail stops the ring or drops the frame; the driver restarts it"
    expect = frozenset({Outcome.DETECTED, Outcome.RECOVERED})
    default = "nth = 4"

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, dma=_RefusingDma(ports.dma, self))

    def hits(self) -> bool:
        """Whether the read now under way gets no answer."""
        if not self.trigger.strikes(self.bench.now_ns):
            return False
        self.did("a read was not answered")
        return True
