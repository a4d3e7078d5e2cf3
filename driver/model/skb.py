# SPDX-License-Identifier: MIT
"""Frames in host memory, a batch at a time: what ``struct sk_buff`` is to the C driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from pool.buffers import BufferBatch, Rows
from pool.interface import Context


class BufferOwner(Protocol):
    """Where the buffers of a batch go when nobody reads them any more."""

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Takes them back."""
        ...


@dataclass(frozen=True, slots=True)
class SkbBatch:
    """``n`` frames in ``m >= n`` pieces; who holds the batch frees it, once.

    buffers: the piece's buffer, m rows; lengths: int64[m], bytes of the frame in it;
    counts: int64[n], pieces of each frame, in order; owner: of all buffers;
    queue: receive queue they came from, -1 if made on the host.
    """

    buffers: BufferBatch
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]
    owner: BufferOwner
    queue: int

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def starts(self) -> NDArray[np.int64]:
        """int64[n]: row of each frame's first piece."""
        starts: NDArray[np.int64] = np.cumsum(self.counts) - self.counts
        return starts

    @property
    def frame_lengths(self) -> NDArray[np.int64]:
        """int64[n]: bytes of each frame."""
        if len(self.lengths) == len(self.counts):
            return self.lengths
        return np.add.reduceat(self.lengths, self.starts)

    def frames(self, memory: NDArray[np.uint8]) -> FrameBatch:
        """The bytes: shared with ``memory`` if every frame is in one piece, else copied."""
        places = self.buffers.memory
        if len(self.lengths) == len(self.counts):
            return FrameBatch(memory, places, self.lengths)
        parts = [
            memory[place : place + length]
            for place, length in zip(places.tolist(), self.lengths.tolist(), strict=True)
        ]
        lengths = self.frame_lengths
        return FrameBatch(np.concatenate(parts), np.cumsum(lengths) - lengths, lengths)

    def split(self, frames: int) -> tuple[SkbBatch, SkbBatch]:
        """The first ``frames`` frames, and the others."""
        if frames >= len(self):
            return self, self.select(slice(0, 0))
        pieces = int(self.counts[:frames].sum())
        return (
            self._cut(slice(0, pieces), slice(0, frames)),
            self._cut(slice(pieces, None), slice(frames, None)),
        )

    def select(self, frames: Rows) -> SkbBatch:
        """Those ``frames``; a mask, rows or a slice."""
        mask = np.zeros(len(self), np.bool_)
        mask[frames] = True
        return self._cut(np.repeat(mask, self.counts), mask)

    def free(self, context: Context) -> None:
        """Gives the buffers back to their owner."""
        if len(self.lengths):
            self.owner.give(self.buffers, context)

    def _cut(self, pieces: Rows, frames: Rows) -> SkbBatch:
        return SkbBatch(
            self.buffers[pieces], self.lengths[pieces], self.counts[frames], self.owner, self.queue
        )
