# SPDX-License-Identifier: MIT
"""What the ledger knows of one device now: the facts that its rules look at.

Rules are told of an event before the facts change, so that they judge it against what was true.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_SHIFT
from emulator.ledger.live import LiveSet
from emulator.ledger.policy import Policy
from emulator.ledger.posted import PostedPages, buffer_pages
from emulator.ledger.signals import ALWAYS, Signal
from emulator.ports import RingKind

RingKey = tuple[int, RingKind]
RX_RINGS = (RingKind.RX_DESC, RingKind.RX_CQ)


class Ring(NamedTuple):
    """A running ring of a queue pair."""

    queue: int
    kind: RingKind
    iova: int
    size: int
    started_ns: int

    def __str__(self) -> str:
        return f"{self.kind.value} of queue {self.queue} ({self.iova:#x}+{self.size:#x})"


@dataclass
class DeviceState:
    """Facts of one device.

    posted: for each running descriptor ring, page number -> buffers that the device owns there.
    ring_pages: page number -> running rings with bytes in it. baseline: generations.
    request: (iova, size) of the unmap that is under way. signals: what has been told of.
    by_order: why the device misbehaves on purpose (empty: it does not). refused: pages that the
    guest has mapped and the device does not, by order.
    clock_error_ns: how far times that the guest told may be off. traced, trace_lost: events of its
    tracer that were told, and that are known to be missing. mapped_while_read: the driver's
    strategy keeps pages mapped while the stack reads them, by design.
    """

    name: str
    number: int
    policy: Policy
    live: LiveSet = field(default_factory=LiveSet)
    rings: dict[RingKey, Ring] = field(default_factory=dict)
    ring_pages: dict[int, set[RingKey]] = field(default_factory=dict)
    posted: dict[RingKey, PostedPages] = field(default_factory=dict)
    baseline: set[int] = field(default_factory=set)
    gate_open: bool = False
    gate_why: str = "bus mastering was never turned on"
    driver_removed_ns: int | None = None
    request: tuple[int, int] | None = None
    signals: set[Signal] = field(default_factory=lambda: set(ALWAYS))
    by_order: str = ""
    refused: set[int] = field(default_factory=set)
    clock_error_ns: int = 0
    traced: int = 0
    trace_lost: int = 0
    mapped_while_read: bool = False
    _batch: NDArray[np.uint64] | None = None
    _pages: list[int] = field(default_factory=list)

    def was_refused(self, iova: int, size: int) -> bool:
        """Whether the map of a page of this range was refused by order."""
        return any(iova >> PAGE_SHIFT <= page <= _last(iova, size) for page in self.refused)

    def no_longer_refused(self, iova: int, size: int) -> None:
        """The range was mapped after all, or unmapped."""
        first, last = iova >> PAGE_SHIFT, _last(iova, size)
        self.refused = {page for page in self.refused if not first <= page <= last}

    @property
    def posted_count(self) -> int:
        """Buffers that the device owns; one that crosses pages counts once for each."""
        return sum(pages.total() for pages in self.posted.values())

    def start_ring(self, ring: Ring) -> None:
        """The ring belongs to the device."""
        key = (ring.queue, ring.kind)
        self.stop_ring(key)
        self.rings[key] = ring
        for page in _ring_pages(ring):
            self.ring_pages.setdefault(page, set()).add(key)

    def stop_ring(self, key: RingKey) -> None:
        """The ring and every buffer on it belong to the driver."""
        self.posted.pop(key, None)
        ring = self.rings.pop(key, None)
        if ring is None:
            return
        for page in _ring_pages(ring):
            self.ring_pages[page].discard(key)
            if not self.ring_pages[page]:
                del self.ring_pages[page]

    def stop_all(self) -> None:
        """A reset: nothing belongs to the device."""
        self.rings.clear()
        self.ring_pages.clear()
        self.posted.clear()

    def pages_of(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> list[int]:
        """:func:`buffer_pages` of the batch being posted: worked out once for all who ask."""
        if self._batch is not iovas:
            self._batch, self._pages = iovas, buffer_pages(iovas, lengths)
        return self._pages

    def owns_any(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], kind: RingKind
    ) -> bool:
        """False: no byte lies in a page in which the device owns a buffer of a ring of ``kind``."""
        rings = [posted for key, posted in self.posted.items() if key[1] is kind]
        return any(ring.meets(iovas, lengths) for ring in rings)

    def owned_among(self, pages: list[int], kind: RingKind) -> list[int]:
        """Those of ``pages`` in which the device owns a buffer of a ring of ``kind``."""
        rings = [posted for key, posted in self.posted.items() if key[1] is kind]
        return [page for ring in rings for page in filter(ring.__contains__, pages)]

    def post(self, key: RingKey, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """Buffers go to the device."""
        pages = self.posted.get(key)
        if pages is None:
            pages = self.posted[key] = PostedPages()
        pages.add(iovas, lengths)
        self._batch = None

    def give_back(
        self, key: RingKey, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> None:
        """Buffers go back to the driver; those that were never posted are ignored."""
        pages = self.posted.get(key)
        if pages is not None:
            pages.remove(iovas, lengths)


def _last(iova: int, size: int) -> int:
    return (iova + max(size, 1) - 1) >> PAGE_SHIFT


def _ring_pages(ring: Ring) -> range:
    return range(ring.iova >> PAGE_SHIFT, _last(ring.iova, ring.size) + 1)
