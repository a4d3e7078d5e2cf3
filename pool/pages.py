# SPDX-License-Identifier: MIT
"""What a pool remembers per page frame, as the kernel keeps it in ``struct page``.

Two columns indexed by frame: the DMA address of the page while it is mapped, and whether the page
is out. The second is what makes a page given twice an error with a name instead of two owners.
"""

from __future__ import annotations

import numpy as np

from pool.buffers import NO_IOVA, BufferBatch, IovaArray, PfnArray
from pool.errors import NotOutstandingError, WrongDomainError


class PageRecords:
    """Records of the pages of one pool; grows to the highest frame seen."""

    def __init__(self, owner: str, domain: int) -> None:
        self._owner, self._domain = owner, domain
        self._iova = np.zeros(0, np.uint64)
        self._out = np.zeros(0, np.bool_)
        self._position = np.zeros(0, np.int64)

    def set_iovas(self, pfns: PfnArray, iovas: IovaArray) -> None:
        """The pages are mapped there from now on."""
        self._reach(pfns)
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
        """The pages are out."""
        self._out[pfns] = True

    def take_back(self, batch: BufferBatch) -> None:
        """The pages are in again.

        Raises:
            WrongDomainError, NotOutstandingError: then no record has changed.
        """
        pfns = batch.pfns
        if not (batch.domains == self._domain).all():
            wrong = int(np.flatnonzero(batch.domains != self._domain)[0])
            raise WrongDomainError(
                f"{self._owner}: frame {pfns[wrong]:#x} belongs to domain {batch.domains[wrong]}, "
                f"this pool serves {self._domain}; give it to the pool it came from"
            )
        self._check_out(pfns)
        self._out[pfns] = False

    def _check_out(self, pfns: PfnArray) -> None:
        known = (pfns >= 0) & (pfns < len(self._out))
        bad = ~known
        bad[known] = ~self._out[pfns[known]]
        if not bad.any():
            order = np.arange(len(pfns))
            self._position[pfns] = order
            bad = self._position[pfns] != order  # the later of two equal frames overwrote the first
        if bad.any():
            frame = int(pfns[np.flatnonzero(bad)[0]])
            raise NotOutstandingError(
                f"{self._owner}: frame {frame:#x} is not out, or is in the batch twice; "
                "give each buffer back once, to the pool it came from"
            )

    def _reach(self, pfns: PfnArray) -> None:
        """Makes room for the highest frame; doubles, so that growing costs little."""
        need = int(pfns.max(initial=-1)) + 1
        have = len(self._out)
        if need <= have:
            return
        more = max(need, 2 * have) - have
        self._iova = np.append(self._iova, np.full(more, NO_IOVA, np.uint64))
        self._out = np.append(self._out, np.zeros(more, np.bool_))
        self._position = np.append(self._position, np.zeros(more, np.int64))
