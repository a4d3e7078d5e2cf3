# SPDX-License-Identifier: MIT
"""Which part of which frame goes to which receive buffer, for a whole batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.kernel import loop


@dataclass(slots=True)
class Placement:
    """The first ``frames`` frames of a batch, cut into ``len(pieces)`` pieces.

    Piece ``i`` goes to buffer ``i`` and belongs to frame ``owner[i]`` (int64[pieces], ascending).
    """

    frames: int
    pieces: FrameBatch
    owner: NDArray[np.int64]


_OWN = np.arange(1 << 12, dtype=np.int64)
_OWN.flags.writeable = False


@loop
def _fit(lengths: NDArray[np.int64], buffers: NDArray[np.int64]) -> bool:
    """Whether each frame that has a buffer fits into it."""
    for i in range(min(len(lengths), len(buffers))):  # noqa: SIM110 (compiled)
        if lengths[i] > buffers[i]:
            return False
    return True


def place(frames: FrameBatch, buffers: NDArray[np.int64]) -> Placement:
    """As many of ``frames`` as go into buffers of ``buffers`` bytes (int64[m], none 0).

    Each frame starts in a buffer of its own and fills one after the other.
    """
    count = min(len(frames), len(buffers))
    if _fit(frames.lengths, buffers):
        owner = _OWN[:count] if count <= len(_OWN) else np.arange(count, dtype=np.int64)
        return Placement(count, frames if count == len(frames) else frames[:count], owner)
    return _cut(frames, buffers, _buffers_needed(frames.lengths[:count], buffers))


def _buffers_needed(lengths: NDArray[np.int64], buffers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Buffers taken by each frame, for as many frames as fit."""
    if bool((buffers == buffers[0]).all()):
        needed: NDArray[np.int64] = np.maximum(1, -(-lengths // buffers[0]))
        return needed[np.cumsum(needed) <= len(buffers)]
    ends, at, unequal = np.cumsum(buffers), 0, []
    for length in lengths.tolist():
        before = int(ends[at - 1]) if at else 0
        end = int(np.searchsorted(ends, before + length)) + 1
        if end > len(buffers):
            break
        unequal.append(max(1, end - at))
        at = end
        if at == len(buffers):
            break
    return np.array(unequal, np.int64)


def _cut(frames: FrameBatch, buffers: NDArray[np.int64], needed: NDArray[np.int64]) -> Placement:
    owner = np.repeat(np.arange(len(needed), dtype=np.int64), needed)
    starts = np.cumsum(needed) - needed
    used = buffers[: len(owner)]
    before = np.cumsum(used) - used
    within = before - before[starts][owner]
    pieces = FrameBatch(
        frames.data,
        frames.offsets[owner] + within,
        np.minimum(used, frames.lengths[owner] - within),
    )
    return Placement(len(needed), pieces, owner)
