# SPDX-License-Identifier: MIT
"""What a pool remembers per page frame, as the kernel keeps it in ``struct page``.

Columns indexed by frame: the DMA address of the page while it is mapped, and whether its buffers
are home, posted or received. The latter is what makes a buffer given twice an error with a name
instead of two owners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, PAGE_SIZE, BufferBatch, IovaArray, PfnArray
from pool.errors import NotOutstandingError, WrongDomainError

HOME, POSTED, RECEIVED = 0, 1, 2


class PageRecords:
    """Records of the pages of one pool; grows to the highest frame seen.

    slot_bytes: the least distance of two buffers in a page; PAGE_SIZE: one buffer a page.
    """

    def __init__(self, owner: str, domain: int, slot_bytes: int = PAGE_SIZE) -> None:
        self._owner, self._domain = owner, domain
        self._slot_bytes, self._slots = slot_bytes, -(-PAGE_SIZE // slot_bytes)
        self._iova = np.zeros(0, np.uint64)
        self._state = np.zeros(0, np.uint8)
        self._position = np.zeros(0, np.int64)

    def set_iovas(self, pfns: PfnArray, iovas: IovaArray) -> None:
        """The pages are mapped there from now on."""
        self.reach(pfns)
        self._iova[pfns] = iovas

    def iovas(self, pfns: PfnArray) -> IovaArray:
        """uint64[n]: where the pages are mapped, NO_IOVA if they are not."""
        return self._iova[pfns]

    def forget_iovas(self, pfns: PfnArray) -> IovaArray:
        """uint64[m], m <= n: addresses of those pages that were mapped; none is from now on."""
        iovas = self._iova[pfns]
        self._iova[pfns] = NO_IOVA
        live: IovaArray = iovas[iovas != np.uint64(NO_IOVA)]
        return live

    def mapped(self) -> PfnArray:
        """int64[m]: all frames that are mapped, ascending."""
        return np.flatnonzero(self._iova != np.uint64(NO_IOVA))

    def lend(self, pfns: PfnArray) -> None:
        """The pages are out, whole."""
        self._state[pfns * self._slots if self._slots > 1 else pfns] = POSTED

    def lend_buffers(self, batch: BufferBatch) -> None:
        """The buffers are out; other buffers may lie in the same pages."""
        self.reach(batch.pfns)
        self._state[self._keys(batch)] = POSTED

    def set_received(self, batch: BufferBatch) -> None:
        """The device is done with the buffers."""
        self._state[self._keys(batch)] = RECEIVED

    def are_received(self, pfns: PfnArray) -> NDArray[np.bool_]:
        """bool[n]: the page's buffer is out and received; for pools with one buffer a page."""
        received: NDArray[np.bool_] = self._state[pfns] == RECEIVED
        return received

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

    def reach(self, pfns: PfnArray) -> None:
        """Makes room for the highest frame; doubles, so that growing costs little."""
        need = int(pfns.max(initial=-1)) + 1
        have = len(self._iova)
        if need <= have:
            return
        more = max(need, 2 * have) - have
        self._iova = np.append(self._iova, np.full(more, NO_IOVA, np.uint64))
        self._state = np.append(self._state, np.zeros(more * self._slots, np.uint8))
        self._position = np.append(self._position, np.zeros(more * self._slots, np.int64))
