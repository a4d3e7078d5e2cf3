# SPDX-License-Identifier: MIT
"""Guest memory in one numpy array, and the allocator of its pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from driver.model.errors import HostMemoryError
from pool.buffers import PAGE_SHIFT, PAGE_SIZE, PfnArray


class GuestMemory:
    """``pages`` zeroed pages: the :class:`emulator.iommu.mapping.Memory` of an in-process host."""

    def __init__(self, pages: int, index: int = 0) -> None:
        self.array: NDArray[np.uint8] = np.zeros(pages * PAGE_SIZE, np.uint8)
        self.index = index

    def view(self, pfn: int, size: int) -> NDArray[np.uint8]:
        """uint8[size] from frame ``pfn`` on."""
        return self.array[pfn << PAGE_SHIFT : (pfn << PAGE_SHIFT) + size]


class HostPages:
    """Allocator of the frames of ``memory``, the first ``contiguous`` of which serve blocks.

    Single pages come off a stack, last freed first, as the kernel's per-CPU lists give them out.
    Blocks are the lowest free run, aligned to ``align`` frames. Frame 0 is never given out.
    """

    def __init__(self, memory: GuestMemory, contiguous: int) -> None:
        pages = len(memory.array) // PAGE_SIZE
        self._memory = memory.array
        self._stack: PfnArray = np.arange(pages - 1, contiguous - 1, -1)
        self._count = len(self._stack)
        self._used = np.zeros(pages, np.bool_)
        self._contiguous = contiguous
        self._used[0] = True

    @property
    def span(self) -> tuple[int, int]:
        """See :class:`pool.interface.PageAllocator`."""
        return 0, len(self._used)

    @property
    def in_use(self) -> int:
        """Pages given out and not freed."""
        return int(np.count_nonzero(self._used)) - 1

    def alloc_pages(self, count: int, order: int = 0) -> PfnArray:
        """See :class:`pool.interface.PageAllocator`."""
        if order:
            blocks = (self.alloc_block(1 << order, 1 << order) for _ in range(count))
            return np.array([first for first in blocks if first is not None], np.int64)
        count = min(count, self._count)
        self._count -= count
        pfns = self._stack[self._count : self._count + count][::-1].copy()
        self._used[pfns] = True
        return pfns

    def free_pages(self, pfns: PfnArray, order: int = 0) -> None:
        """See :class:`pool.interface.PageAllocator`.

        Raises:
            HostMemoryError: a page is not in use; none was freed.
        """
        if order:
            for first in pfns.tolist():
                self.free_block(first, 1 << order)
            return
        self._check(pfns)
        self._used[pfns] = False
        self._stack[self._count : self._count + len(pfns)] = pfns
        self._count += len(pfns)

    def alloc_block(self, count: int, align: int = 1) -> int | None:
        """First of ``count`` frames in a row, or None if there is no such run."""
        for first in range(-(-1 // align) * align, self._contiguous - count + 1, align):
            if not self._used[first : first + count].any():
                self._used[first : first + count] = True
                return first
        return None

    def free_block(self, first: int, count: int) -> None:
        """Frees what :meth:`alloc_block` gave. Raises: HostMemoryError."""
        self._check(np.arange(first, first + count))
        self._used[first : first + count] = False

    def copy_bytes(self, sources: PfnArray, destinations: PfnArray, lengths: PfnArray) -> None:
        """See :class:`pool.ports.CopyPages`."""
        for source, destination, length in zip(
            sources.tolist(), destinations.tolist(), lengths.tolist(), strict=True
        ):
            self._memory[destination : destination + length] = self._memory[
                source : source + length
            ]

    def _check(self, pfns: PfnArray) -> None:
        if not self._used[pfns].all() or len(np.unique(pfns)) != len(pfns):
            raise HostMemoryError(f"frames {pfns[:8].tolist()}...: one is freed twice")
