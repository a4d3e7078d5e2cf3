# SPDX-License-Identifier: MIT
"""Who has which buffer of a pool: home, posted to the device, or received by the stack.

A column with a place for each buffer that can begin in memory. It is what makes a buffer that is
given back twice, or to a pool it is not from, an error with a name instead of two owners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pool.buffers import PAGE_SIZE, BufferBatch
from pool.errors import NotOutstandingError, WrongDomainError

HOME, POSTED, RECEIVED = 0, 1, 2


class PageRecords:
    """Records of the buffers of one pool.

    frames: of memory; slot_bytes: the least distance of two buffers; PAGE_SIZE: one a page.
    """

    def __init__(self, owner: str, domain: int, frames: int, slot_bytes: int = PAGE_SIZE) -> None:
        self._owner, self._domain = owner, domain
        self._slot_bytes, self._slots = slot_bytes, -(-PAGE_SIZE // slot_bytes)
        self._state = np.zeros(frames * self._slots, np.uint8)
        self._position = np.zeros(frames * self._slots, np.int64)

    def lend(self, batch: BufferBatch) -> None:
        """The buffers are out."""
        self._state[self._keys(batch)] = POSTED

    def set_received(self, batch: BufferBatch) -> None:
        """The device is done with the buffers."""
        self._state[self._keys(batch)] = RECEIVED

    def take_back(self, batch: BufferBatch) -> NDArray[np.bool_]:
        """The buffers are in again. bool[n]: which were marked received.

        Raises:
            WrongDomainError, NotOutstandingError: then no record has changed.
        """
        if not (batch.domains == self._domain).all():
            wrong = int(np.flatnonzero(batch.domains != self._domain)[0])
            raise WrongDomainError(
                f"{self._owner}: frame {batch.pfns[wrong]:#x} belongs to domain "
                f"{batch.domains[wrong]}, this pool serves {self._domain}; "
                "give it to the pool it came from"
            )
        keys = self._keys(batch)
        self._check_out(keys)
        received: NDArray[np.bool_] = self._state[keys] == RECEIVED
        self._state[keys] = HOME
        return received

    def _keys(self, batch: BufferBatch) -> NDArray[np.int64]:
        """int64[n]: place of each buffer's state."""
        if self._slots == 1:
            return batch.pfns
        starts = batch.offsets - batch.headrooms
        return batch.pfns * self._slots + starts // self._slot_bytes

    def _check_out(self, keys: NDArray[np.int64]) -> None:
        known = (keys >= 0) & (keys < len(self._state))
        bad = ~known
        bad[known] = self._state[keys[known]] == HOME
        if not bad.any():
            order = np.arange(len(keys))
            self._position[keys] = order
            bad = self._position[keys] != order  # the later of two equal keys overwrote the first
        if bad.any():
            frame = int(keys[np.flatnonzero(bad)[0]]) // self._slots
            raise NotOutstandingError(
                f"{self._owner}: frame {frame:#x} is not out, or is in the batch twice; "
                "give each buffer back once, to the pool it came from"
            )
