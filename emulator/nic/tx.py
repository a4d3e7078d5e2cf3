# SPDX-License-Identifier: MIT
"""The transmit side of a queue pair: frames described by posted descriptors go to the wire."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.nic.completions import sent
from emulator.nic.config import ETHERNET_HEADER, FRAME_CAP
from emulator.nic.descriptors import TX_DESC
from emulator.nic.engine import QueueContext, RingEngine
from emulator.nic.queue import Descriptors
from emulator.nic.registers import DMABED_TX_DESC_FLAGS_EOP
from emulator.nic.wire.base import Wire

FLAG_EOP: Final = np.uint32(DMABED_TX_DESC_FLAGS_EOP)


class Transmitter(RingEngine):
    """Sends the frames of one transmit ring. One completion a frame, with SOP and EOP set."""

    def __init__(self, context: QueueContext, wire: Wire) -> None:
        super().__init__(context, TX_DESC, tx=True)
        self._wire = wire

    def run(self, now_ns: int) -> bool:
        """Sends a batch; True if more can be sent at once."""
        ring = self.ring
        if not ring.running:
            return False
        self.top_up(now_ns)
        descs = ring.peek(ring.size)
        ends = np.flatnonzero(descs.words & FLAG_EOP)
        if not len(ends):
            return self._unfinished(now_ns)
        batch = ends[: max(1, int(np.searchsorted(ends, self._context.config.batch)))]
        self._send(descs[: int(batch[-1]) + 1], batch, now_ns)
        return ring.running and ring.posted > 0

    def _unfinished(self, now_ns: int) -> bool:
        """No descriptor at hand ends a frame: fetch or wait for more, if more can come."""
        ring = self.ring
        if ring.ready == ring.size:
            self._bad_descriptor()
            self._ring_fault(now_ns)
        elif ring.fetched < ring.tail:
            self.fetch(now_ns, ring.size)
            return ring.running
        return False

    def _bad_descriptor(self) -> None:
        self._context.stats.tx_errors += 1

    def _send(self, descs: Descriptors, ends: NDArray[np.intp], now_ns: int) -> None:
        """Sends the frames whose last descriptors are ``descs[ends]``."""
        iovas, lengths = descs.iovas, descs.lengths
        starts = np.concatenate((np.zeros(1, np.intp), ends[:-1] + 1))
        frame_lengths = np.add.reduceat(lengths, starts)
        pieces, read = self._context.dma.gather(iovas, lengths)
        good = (frame_lengths >= ETHERNET_HEADER) & (frame_lengths <= FRAME_CAP)
        if not read.all():
            self._payload_refused(iovas, read)
            good &= np.logical_and.reduceat(read, starts)
        frames = join(pieces, starts, frame_lengths)[good]
        if len(frames):
            self._wire.transmit(frames, now_ns)
        self._count(frame_lengths[good], len(good))
        entries = sent(ends - starts + 1, descs.ids[ends], frame_lengths, good)
        written = self._complete(descs, entries, now_ns)
        done = int(good[:written].sum())
        self._context.observer.packets(now_ns, self._context.queue, self._cq_kind, done)

    def _count(self, lengths: NDArray[np.int64], frames: int) -> None:
        """``frames`` were dealt with; those of ``lengths`` were sent."""
        stats = self._context.stats
        stats.tx_packets += len(lengths)
        stats.tx_bytes += int(lengths.sum())
        stats.tx_errors += frames - len(lengths)


def join(pieces: FrameBatch, starts: NDArray[np.intp], lengths: NDArray[np.int64]) -> FrameBatch:
    """Frames made of consecutive ``pieces``.

    starts: intp[n], the first piece of each frame; lengths: int64[n], bytes of each frame.
    """
    if len(starts) == len(pieces):
        return pieces
    adjacent = pieces.offsets[1:] == pieces.offsets[:-1] + pieces.lengths[:-1]
    if adjacent.all():
        return FrameBatch(pieces.data, pieces.offsets[starts], lengths)
    data = np.concatenate(
        [
            pieces.data[offset : offset + length]
            for offset, length in zip(pieces.offsets.tolist(), pieces.lengths.tolist(), strict=True)
        ]
    )
    return FrameBatch(data, np.cumsum(lengths) - lengths, lengths)
