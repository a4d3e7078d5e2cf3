# SPDX-License-Identifier: MIT
"""Completion entries, made for a whole batch: rows of 32-bit words as they go to guest memory."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.kernel import loop
from emulator.nic.descriptors import COMPLETION
from emulator.nic.registers import (
    DMABED_COMPLETION_STATUS_EOP,
    DMABED_COMPLETION_STATUS_ERROR,
    DMABED_COMPLETION_STATUS_SOP,
)

WORDS: Final = COMPLETION.size // 4
STATUS_WORD: Final = COMPLETION.place("status")[0]

_HASH_WORD = COMPLETION.place("hash")[0]
_LENGTH_WORD, _LENGTH_BIT = COMPLETION.place("len")
_ID_WORD, _ID_BIT = COMPLETION.place("id")
_FRAME_WORD = COMPLETION.place("frame_len")[0]
_SOP, _EOP = DMABED_COMPLETION_STATUS_SOP, DMABED_COMPLETION_STATUS_EOP
_ERROR = DMABED_COMPLETION_STATUS_ERROR


def received(
    hashes: NDArray[np.uint32],
    frame_lengths: NDArray[np.int64],
    owner: NDArray[np.int64],
    lengths: NDArray[np.int64],
    ids: NDArray[np.uint16],
    lost: NDArray[np.bool_],
) -> NDArray[np.uint32]:
    """uint32[n, WORDS]: completions of ``n`` receive buffers, without phase.

    Buffer ``i`` took ``lengths[i]`` bytes of frame ``owner[i]``, which ascends; hashes,
    frame_lengths, lost: one element a frame; ids: one a buffer.
    """
    entries = np.zeros((len(lengths), WORDS), np.uint32)
    _received(entries, hashes, frame_lengths, owner, lengths, ids, lost)
    return entries


def sent(
    used: NDArray[np.int64],
    ids: NDArray[np.uint16],
    frame_lengths: NDArray[np.int64],
    good: NDArray[np.bool_],
) -> NDArray[np.uint32]:
    """uint32[n, WORDS]: completions of ``n`` transmitted frames, without phase.

    used: descriptors of each; ids: of the last one.
    """
    frames = np.arange(len(used), dtype=np.int64)
    entries = np.zeros((len(used), WORDS), np.uint32)
    no_hash = np.zeros(len(used), np.uint32)
    _received(entries, no_hash, frame_lengths, frames, used, ids, ~good)
    return entries


@loop
def _received(
    entries: NDArray[np.uint32],
    hashes: NDArray[np.uint32],
    frame_lengths: NDArray[np.int64],
    owner: NDArray[np.int64],
    lengths: NDArray[np.int64],
    ids: NDArray[np.uint16],
    lost: NDArray[np.bool_],
) -> int:
    """Fills ``entries``; those of a lost frame carry ERROR."""
    count = len(entries)
    for i in range(count):
        frame = owner[i]
        status = 0
        if i == 0 or owner[i - 1] != frame:
            status |= _SOP
        if i == count - 1 or owner[i + 1] != frame:
            status |= _EOP
        if lost[frame]:
            status |= _ERROR
        entries[i, _HASH_WORD] = hashes[frame]
        entries[i, _LENGTH_WORD] |= lengths[i] << _LENGTH_BIT
        entries[i, _ID_WORD] |= np.int64(ids[i]) << _ID_BIT
        entries[i, _FRAME_WORD] = frame_lengths[frame]
        entries[i, STATUS_WORD] = status
    return 0
