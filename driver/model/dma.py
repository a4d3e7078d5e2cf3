# SPDX-License-Identifier: MIT
"""The DMA API of one device over its address space, with every map and unmap told to the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from driver.model.errors import DmaApiError
from emulator.iommu.errors import TooManyMappingsError
from emulator.iommu.mapping import Memory
from emulator.iommu.space import AddressSpace
from emulator.ledger import DeviceLedger
from pool.buffers import NO_IOVA, PAGE_SHIFT, PAGE_SIZE, IovaArray, PfnArray
from pool.interface import Direction

IOVA_TOP = 1 << 32
"""Linux tries below 4 GiB first, from the top down (drivers/iommu/dma-iommu.c, iova.c)."""


class IovaAllocator:
    """Hands IOVAs out again last freed first, else the highest never used, down to ``bottom``.

    The order is that of the kernel's per-CPU magazines before they overflow to the depot.
    """

    def __init__(self, top: int = IOVA_TOP, bottom: int = PAGE_SIZE) -> None:
        self._next, self._bottom = top, bottom
        self._free: defaultdict[int, list[int]] = defaultdict(list)

    def alloc(self, pages: int) -> int | None:
        """First IOVA of ``pages`` pages in a row, or None if the space is used up."""
        free = self._free[pages]
        if free:
            return free.pop()
        if self._next - pages * PAGE_SIZE < self._bottom:
            return None
        self._next -= pages * PAGE_SIZE
        return self._next

    def free(self, iova: int, pages: int) -> None:
        """Takes a range back."""
        self._free[pages].append(iova)


class SpaceDmaApi:
    """The :class:`pool.interface.DmaApi` of the device that ``space`` belongs to.

    domain: the device's. clock: ns now. synced_for_device, synced_for_cpu: buffers.
    """

    def __init__(
        self,
        space: AddressSpace,
        memory: Memory,
        ledger: DeviceLedger | None,
        domain: int,
        clock: Callable[[], int],
        iovas: IovaAllocator | None = None,
    ) -> None:
        self._space, self._memory, self._ledger = space, memory, ledger
        self._domain, self._clock = domain, clock
        self._iovas = iovas or IovaAllocator()
        self.synced_for_device = self.synced_for_cpu = 0

    @property
    def domain(self) -> int:
        """See :class:`pool.interface.DmaApi`."""
        return self._domain

    def map_pages(self, pfns: PfnArray, direction: Direction, order: int = 0) -> IovaArray:
        """See :class:`pool.interface.DmaApi`."""
        found = (self.map_range(pfn, 1 << order, direction) for pfn in pfns.tolist())
        return np.fromiter((NO_IOVA if i is None else i for i in found), np.uint64, len(pfns))

    def unmap_pages(self, iovas: IovaArray, order: int = 0) -> None:
        """See :class:`pool.interface.DmaApi`. Raises: DmaApiError: one is not mapped."""
        for iova in iovas.tolist():
            self.unmap_range(iova, 1 << order)

    def map_range(self, pfn: int, pages: int, direction: Direction) -> int | None:
        """IOVA of ``pages`` pages from frame ``pfn`` on as one mapping; None if refused."""
        iova = self._iovas.alloc(pages)
        if iova is not None and not self._map(iova, pfn, pages, direction):
            self._iovas.free(iova, pages)
            return None
        return iova

    def map_scattered(self, pfns: PfnArray, direction: Direction) -> int | None:
        """IOVA at which ``pfns`` appear one behind the other, page by page; None if refused."""
        pages = len(pfns)
        iova = self._iovas.alloc(pages)
        if iova is None:
            return None
        for number, pfn in enumerate(pfns.tolist()):
            if not self._map(iova + (number << PAGE_SHIFT), pfn, 1, direction):
                self._unmap(iova, number)
                self._iovas.free(iova, pages)
                return None
        return iova

    def unmap_scattered(self, iova: int, pages: int) -> None:
        """Undoes :meth:`map_scattered`, by one request for all. Raises: DmaApiError."""
        self.unmap_range(iova, pages)

    def unmap_range(self, iova: int, pages: int) -> None:
        """Undoes :meth:`map_range`; the IOVA may be handed out again at once.

        Raises:
            DmaApiError: it is not mapped.
        """
        if not self._unmap(iova, pages):
            size = pages << PAGE_SHIFT
            raise DmaApiError(f"unmap of {iova:#x}+{size:#x}: not mapped; it was unmapped before")
        self._iovas.free(iova, pages)

    def sync_for_device(self, iovas: IovaArray, lengths: PfnArray) -> None:
        """Counted: memory here is coherent."""
        self.synced_for_device += len(iovas)

    def sync_for_cpu(self, iovas: IovaArray, lengths: PfnArray) -> None:
        """Counted: memory here is coherent."""
        self.synced_for_cpu += len(iovas)

    def _map(self, iova: int, pfn: int, pages: int, direction: Direction) -> bool:
        """Makes one mapping; False: the space has no room for it."""
        now_ns = self._clock()
        readable = direction is not Direction.FROM_DEVICE
        writable = direction is not Direction.TO_DEVICE
        size, place = pages << PAGE_SHIFT, pfn << PAGE_SHIFT
        try:
            mapping = self._space.map(iova, size, self._memory, place, readable, writable, now_ns)
        except TooManyMappingsError:
            return False
        if self._ledger is not None:
            self._ledger.mapped(now_ns, mapping)
        return True

    def _unmap(self, iova: int, pages: int) -> bool:
        """Ends all mappings in the range; False: there was none."""
        if not pages:
            return False
        now_ns, size = self._clock(), pages << PAGE_SHIFT
        if self._ledger is not None:
            self._ledger.unmap_requested(now_ns, iova, size)
        removed = self._space.unmap(iova, size, now_ns)
        if self._ledger is not None:
            self._ledger.unmapped(now_ns, removed)
        return bool(removed)
