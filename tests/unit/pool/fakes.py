# SPDX-License-Identifier: MIT
"""A page allocator and a DMA API that refuse every misuse at once."""

import numpy as np

from pool.buffers import NO_IOVA
from pool.interface import Direction


class StrictPages:
    """Frames 16.. of ``total`` pages; a double free or a foreign frame fails the test.

    max_order: of the largest blocks there are. Last freed is given out last.
    """

    def __init__(self, total=4096, max_order=9):
        self.span = (16, total)
        self.free = list(range(16, 16 + total))[::-1]
        self.live = set()
        self.blocks, self.in_blocks = {}, set()
        self.calls = []
        self.copied = []
        self.max_order = max_order

    def alloc_pages(self, count, order=0):
        self.calls.append(count)
        if order:
            blocks = (self._alloc_block(1 << order) for _ in range(count))
            return np.array([b for b in blocks if b is not None], np.int64)
        got = [self.free.pop() for _ in range(min(count, len(self.free)))]
        self.live.update(got)
        return np.array(got, np.int64)

    def _alloc_block(self, size):
        if size > 1 << self.max_order:
            return None
        free = set(self.free)
        for first in range(-(-16 // size) * size, 16 + self.span[1] - size + 1, size):
            frames = range(first, first + size)
            if free.issuperset(frames):
                self.free = [pfn for pfn in self.free if pfn not in frames]
                self.live.update(frames)
                self.in_blocks.update(frames)
                self.blocks[first] = size
                return first
        return None

    def free_pages(self, pfns, order=0):
        for first in pfns.tolist():
            if order:
                assert self.blocks.pop(first) == 1 << order
            frames = range(first, first + (1 << order))
            assert self.in_blocks.issuperset(frames) if order else first not in self.in_blocks
            self.in_blocks.difference_update(frames)
            for pfn in frames:
                self.live.remove(pfn)
                self.free.insert(0, pfn)

    def copy_bytes(self, sources, destinations, lengths):
        assert len(sources) == len(destinations) == len(lengths)
        for place in (*sources.tolist(), *destinations.tolist()):
            assert place >> 12 in self.live
        self.copied += np.stack((sources, destinations, lengths), 1).tolist()


class HotPages(StrictPages):
    """Last freed is given out first, as the kernel's per-CPU lists do."""

    def free_pages(self, pfns, order=0):
        assert order == 0
        for pfn in pfns.tolist():
            self.live.remove(pfn)
            self.free.append(pfn)


class StrictDma:
    """Every map gets a new IOVA; an unmap of what is not mapped fails the test.

    live: frames of each mapping, in order, by its IOVA. may_free_mapped: pages may go back to the
    allocator while they are mapped.
    """

    def __init__(self, pages, domain=7, refuse=(), may_free_mapped=False):
        self.pages, self.domain = pages, domain
        self.live, self.pte = {}, {}
        self.next = 0x1000_0000
        self.maps = self.unmaps = self.synced_for_device = self.synced_for_cpu = 0
        self.mapped_pages = self.unmapped_pages = 0
        self.refuse = set(refuse)
        self.may_free_mapped = may_free_mapped

    def map_pages(self, pfns, direction, order=0):
        found = (self.map_range(pfn, 1 << order, direction) for pfn in pfns.tolist())
        return np.array([NO_IOVA if iova is None else iova for iova in found], np.uint64)

    def unmap_pages(self, iovas, order=0):
        for iova in iovas.tolist():
            self.unmap_range(iova, 1 << order)

    def map_range(self, pfn, pages, direction):
        return self.map_scattered(np.arange(pfn, pfn + pages), direction)

    def unmap_range(self, iova, pages):
        frames = self.live.pop(iova)
        assert len(frames) == pages
        # unmapped before it is freed
        assert self.may_free_mapped or self.pages.live.issuperset(frames)
        for page in range(pages):
            del self.pte[iova + page * 0x1000]
        self.unmaps += 1
        self.unmapped_pages += pages

    def map_scattered(self, pfns, direction):
        assert isinstance(direction, Direction)
        frames = pfns.tolist()
        assert self.may_free_mapped or self.pages.live.issuperset(frames)
        if self.refuse.intersection(frames):
            return None
        iova = self.next = self.next + 0x1000
        self.next += len(frames) * 0x1000
        self.live[iova] = frames
        self.pte.update((iova + n * 0x1000, pfn) for n, pfn in enumerate(frames))
        self.maps += 1
        self.mapped_pages += len(frames)
        return iova

    unmap_scattered = unmap_range

    def reached(self):
        """Frames that the device reaches."""
        return set(self.pte.values())

    def place(self, iova):
        """Where in memory the device's access at ``iova`` lands, bytes from frame 0."""
        return (self.pte[iova & ~0xFFF] << 12) + (iova & 0xFFF)

    def sync_for_device(self, iovas, lengths):
        assert len(iovas) == len(lengths)
        assert all(iova & ~0xFFF in self.pte for iova in iovas.tolist())
        self.synced_for_device += len(iovas)

    def sync_for_cpu(self, iovas, lengths):
        assert all(iova & ~0xFFF in self.pte for iova in iovas.tolist())
        self.synced_for_cpu += len(iovas)


class PlainDma:
    """``dma`` without what :mod:`pool.ports` adds to a DMA API."""

    def __init__(self, dma):
        self.domain = dma.domain
        self.map_pages, self.unmap_pages = dma.map_pages, dma.unmap_pages
        self.sync_for_device, self.sync_for_cpu = dma.sync_for_device, dma.sync_for_cpu


class PlainPages:
    """``pages`` without what :mod:`pool.ports` adds to an allocator."""

    def __init__(self, pages):
        self.span = pages.span
        self.alloc_pages, self.free_pages = pages.alloc_pages, pages.free_pages
