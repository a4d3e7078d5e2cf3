# SPDX-License-Identifier: MIT
"""The receive side of a queue pair: frames of the wire go to posted buffers, a batch at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.frames import NO_FRAMES, FrameBatch
from emulator.nic.completions import received
from emulator.nic.descriptors import RX_DESC
from emulator.nic.engine import QueueContext, RingEngine
from emulator.nic.placement import Placement, place
from emulator.nic.queue import Descriptors

NO_HASHES: Final = np.zeros(0, np.uint32)


class Receiver(RingEngine):
    """Delivers frames to one receive ring.

    With PAUSE, frames that found too few descriptors wait here (at most one batch of the wire, for
    the NIC asks for no more while any waits); without it they are dropped.
    """

    def __init__(self, context: QueueContext) -> None:
        super().__init__(context, RX_DESC, tx=False)
        self._waiting = NO_FRAMES
        self._hashes = NO_HASHES

    @property
    def waiting(self) -> int:
        """Frames taken from the wire that wait for descriptors."""
        return len(self._waiting)

    def stop(self, now_ns: int) -> None:
        """As for every ring; frames that waited for its descriptors are dropped."""
        super().stop(now_ns)
        self._context.stats.rx_drops += len(self._waiting)
        self._keep(NO_FRAMES, NO_HASHES)

    def refill(self, now_ns: int) -> None:
        """Fetches descriptors, and delivers what waited for them."""
        self.top_up(now_ns)
        if self._waiting:
            self.deliver(NO_FRAMES, NO_HASHES, now_ns)

    def take(
        self, frames: FrameBatch, hashes: NDArray[np.uint32], longest: int, now_ns: int
    ) -> None:
        """Delivers those of ``frames`` that have at most ``longest`` bytes; others are errors."""
        fits = frames.lengths <= longest
        fitting = int(np.count_nonzero(fits))
        if fitting != len(fits):
            self._context.stats.rx_errors += len(fits) - fitting
            frames, hashes = frames[fits], hashes[fits]
        if fitting:
            self.deliver(frames, hashes, now_ns)

    def deliver(self, frames: FrameBatch, hashes: NDArray[np.uint32], now_ns: int) -> None:
        """Takes ``frames``, whose flow hashes are ``hashes``, and delivers as many as it can."""
        if not self.ring.running:
            self._context.stats.rx_drops += len(frames)
            return
        if self._waiting:
            frames = FrameBatch.concat((self._waiting, frames))
            hashes = np.concatenate((self._hashes, hashes))
        count = len(frames)
        done = 0
        while done < count and self.ring.running:
            self.top_up(now_ns)
            part = self._deliver(frames, hashes, now_ns)
            if not part and not self._more_descriptors(now_ns):
                break
            done += part
            if part:
                frames, hashes = frames[part:], hashes[part:]
        self._leave(frames, hashes)

    def _deliver(self, frames: FrameBatch, hashes: NDArray[np.uint32], now_ns: int) -> int:
        """Delivers what the descriptors at hand can take; returns the frames dealt with."""
        ring = self.ring
        descs = ring.peek(len(frames))
        if not len(descs):
            return 0
        placement = place(frames, descs.lengths)
        if placement.frames < len(descs):  # some frame needs several
            descs = ring.peek(ring.size)
            placement = place(frames, descs.lengths)
        if placement.frames:
            used = descs[: len(placement.pieces)]
            self._write(frames, hashes, placement, used, now_ns)
        elif ring.ready == ring.size:
            self._context.stats.rx_errors += 1
            return 1
        return placement.frames

    def _more_descriptors(self, now_ns: int) -> bool:
        """Fetches all that is posted, for a frame that needs more than was at hand."""
        ready = self.ring.ready
        self.fetch(now_ns, self.ring.size)
        return self.ring.ready > ready

    def _write(
        self,
        frames: FrameBatch,
        hashes: NDArray[np.uint32],
        placement: Placement,
        descs: Descriptors,
        now_ns: int,
    ) -> None:
        pieces, owner = placement.pieces, placement.owner
        landed = self._context.dma.scatter(descs.iovas, pieces)
        lost = np.zeros(placement.frames, np.bool_)
        if np.count_nonzero(landed) != len(landed):
            self._payload_refused(descs.iovas, landed)
            lost[owner[~landed]] = True
        lengths = frames.lengths[: placement.frames]
        entries = received(hashes, lengths, owner, pieces.lengths, descs.ids, lost)
        written = self._complete(descs, entries, now_ns)
        if written < len(owner):  # a frame is whole when its last completion is
            lost[owner[written] :] = True
        self._count(lengths, lost, now_ns)

    def _count(self, lengths: NDArray[np.int64], lost: NDArray[np.bool_], now_ns: int) -> None:
        context, packets = self._context, len(lost)
        errors = int(np.count_nonzero(lost))
        if errors:
            packets -= errors
            lengths = lengths[~lost]
        context.stats.rx_errors += errors
        context.stats.rx_packets += packets
        context.stats.rx_bytes += int(np.add.reduce(lengths))
        context.observer.packets(now_ns, context.queue, self._cq_kind, packets)

    def _leave(self, frames: FrameBatch, hashes: NDArray[np.uint32]) -> None:
        """Frames that found no descriptors wait or are dropped."""
        if self._context.config.pause and self.ring.running:
            self._keep(frames, hashes)
            return
        self._context.stats.rx_drops += len(frames)
        self._keep(NO_FRAMES, NO_HASHES)

    def _keep(self, frames: FrameBatch, hashes: NDArray[np.uint32]) -> None:
        self._waiting, self._hashes = frames, hashes
