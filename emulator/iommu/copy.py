# SPDX-License-Identifier: MIT
"""Copies many byte ranges between two flat arrays in one call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.kernel import loop


def copy_ranges(
    target: NDArray[np.uint8],
    target_offsets: NDArray[np.int64],
    source: NDArray[np.uint8],
    source_offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Copies ``lengths[i]`` bytes (none if below 0) for each ``i``, in order; offsets in bytes.

    Raises:
        IndexError: a range leaves its array; what came before it was copied.
    """
    row = _copy(target, target_offsets, source, source_offsets, lengths)
    if row < len(lengths):
        raise IndexError(
            f"range {row}: {lengths[row]} bytes from {source_offsets[row]} of {len(source)} to "
            f"{target_offsets[row]} of {len(target)}"
        )


@loop
def _copy(
    target: NDArray[np.uint8],
    target_offsets: NDArray[np.int64],
    source: NDArray[np.uint8],
    source_offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> int:
    """Returns how many ranges were copied before one that leaves its array."""
    for i in range(len(lengths)):
        at, start, length = target_offsets[i], source_offsets[i], lengths[i]
        if length <= 0:
            continue
        if not (0 <= at <= len(target) - length and 0 <= start <= len(source) - length):
            return i
        into, out_of = target[at : at + length], source[start : start + length]
        for k in range(length):
            into[k] = out_of[k]
    return len(lengths)
