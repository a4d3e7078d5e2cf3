# SPDX-License-Identifier: MIT
"""A page allocator and a DMA API that refuse every misuse at once."""

import numpy as np

from pool.buffers import NO_IOVA
from pool.interface import Direction


class StrictPages:
    """Frames 16.. of ``total`` pages; a double free or a foreign frame fails the test."""

    def __init__(self, total=4096):
        self.free = list(range(16, 16 + total))[::-1]
        self.live = set()
        self.calls = []

    def alloc_pages(self, count, order=0):
        assert order == 0
        self.calls.append(count)
        got = [self.free.pop() for _ in range(min(count, len(self.free)))]
        self.live.update(got)
        return np.array(got, np.int64)

    def free_pages(self, pfns, order=0):
        for pfn in pfns.tolist():
            self.live.remove(pfn)
            self.free.insert(0, pfn)


class StrictDma:
    """Every map gets a new IOVA; an unmap of what is not mapped fails the test."""

    def __init__(self, pages, domain=7, refuse=()):
        self.pages, self.domain = pages, domain
        self.live = {}
        self.next = 0x1000_0000
        self.maps = self.unmaps = self.synced_for_device = self.synced_for_cpu = 0
        self.refuse = set(refuse)

    def map_pages(self, pfns, direction, order=0):
        assert order == 0
        assert isinstance(direction, Direction)
        return np.array([self._map(pfn) for pfn in pfns.tolist()], np.uint64)

    def _map(self, pfn):
        assert pfn in self.pages.live
        if pfn in self.refuse:
            return NO_IOVA
        self.next += 0x1000
        self.live[self.next] = pfn
        self.maps += 1
        return self.next

    def unmap_pages(self, iovas, order=0):
        for iova in iovas.tolist():
            assert self.live.pop(iova) in self.pages.live  # unmapped before it is freed
            self.unmaps += 1

    def sync_for_device(self, iovas, lengths):
        assert len(iovas) == len(lengths)
        assert all(iova & ~0xFFF in self.live for iova in iovas.tolist())
        self.synced_for_device += len(iovas)

    def sync_for_cpu(self, iovas, lengths):
        assert all(iova & ~0xFFF in self.live for iova in iovas.tolist())
        self.synced_for_cpu += len(iovas)
