# SPDX-License-Identifier: MIT
"""Frames seen as rows of a matrix: the way to look at a whole batch without a loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch


def windows(data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """uint8[len(data) - width + 1, width]: row ``i`` is ``data[i : i + width]``, shared.

    As numpy's ``sliding_window_view``, whose checks cost more than the copy of a small batch.
    ``data`` is C-contiguous and has at least ``width`` bytes. Not to be written to.
    """
    return np.ndarray((len(data) - width + 1, width), np.uint8, data, 0, (1, 1))


def heads(frames: FrameBatch, width: int) -> NDArray[np.uint8]:
    """uint8[n, width]: copies of the first ``width`` bytes of each frame.

    What lies behind the end of a shorter frame is undefined.
    """
    data, offsets = frames.data, frames.offsets
    if not len(offsets):
        return np.zeros((0, width), np.uint8)
    if int(offsets.max()) + width > len(data):
        data = np.concatenate((data, np.zeros(width, np.uint8)))
    rows: NDArray[np.uint8] = windows(np.ascontiguousarray(data), width)[offsets]
    return rows
