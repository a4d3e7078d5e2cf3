# SPDX-License-Identifier: MIT
"""The guest's trace of its DMA API, joined with the ledger of one device on one clock."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from emulator.iommu.mapping import OFFSET_MASK, PAGE_SHIFT, Memory, target_of
from emulator.ledger.clock import ClockMap, fit
from emulator.ledger.device import DeviceLedger
from emulator.ledger.events import EventKind
from emulator.ledger.facts import (
    Fact,
    GuestMapped,
    GuestSettled,
    GuestUnmapped,
    HeadBuilt,
    PoolCounted,
)
from emulator.ledger.signals import Signal

STAMP_NS = 1000
"""The tracer prints microseconds, cut off."""
SAMPLES_MAX = 1 << 15


Sample = tuple[int, int, int]
"""Of a map: the guest's page table write, its return from the call, the ledger's time; ns."""


class Traced(StrEnum):
    """What the guest's tracer saw."""

    TABLE = "a page table entry was written; the device knows nothing of it yet"
    MAPPED = "dma_map_page() is about to return"
    ALLOCATED = "dma_alloc_coherent() is about to return"
    UNMAPPED = "dma_unmap_page() is about to return"
    FREEING = "dma_free_coherent() begins"
    HEAD = "an skb head is built in a page"
    HOLD = "a page entered a page_pool"
    RELEASE = "a page left a page_pool"


class TraceEvent(NamedTuple):
    """One event; ``iova`` of a HEAD is a guest physical address, of HOLD and RELEASE a frame."""

    time_ns: int
    kind: Traced
    iova: int = 0
    size: int = 0
    phys: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join found.

    events: of the trace. unmatched: maps that only one side saw. lost: by the tracer.
    """

    clock: ClockMap
    events: int
    unmatched: int
    lost: int


class GuestView:
    """What the guest of one device traces, told to the device's ledger trace by trace.

    Samples for the clock, in ``samples``, are kept from one trace to the next; devices of one guest
    may share them. Pools are counted in a trace that
    began while no driver was bound.
    """

    def __init__(self, device: DeviceLedger, samples: list[Sample] | None = None) -> None:
        self._device = device
        self._samples = [] if samples is None else samples
        self._since_ns = 0
        self._pools_known = False

    def begin(self, now_ns: int) -> None:
        """The guest's tracer runs from now on."""
        self._since_ns = now_ns
        state = self._device.state
        bound = Signal.MARK in state.signals and state.driver_removed_ns is None
        self._pools_known = not bound
        self._device.trace_begins(now_ns)

    def join(self, memory: Memory | None, events: Sequence[TraceEvent], lost: int = 0) -> Joined:
        """Tells the ledger, in order and on its clock, what was traced since :meth:`begin`.

        memory: the guest's. events: of this device, and of no device (tables, heads, pools).

        Raises:
            ClockError: guest and device never had a map in common.
        """
        device = self._device
        fresh, unmatched = _samples(device, events, self._since_ns)
        self._samples += fresh
        del self._samples[:-SAMPLES_MAX]
        table, mapped, host = np.array(self._samples, np.int64).reshape(-1, 3).T
        clock = fit(table, mapped + STAMP_NS, host)
        device.clock_error(clock.error_ns + STAMP_NS)
        for event in events:
            at_ns = clock.to_host(event.time_ns)
            if event.kind is Traced.UNMAPPED:
                device.guest_unmapped(at_ns, event.iova, event.size)
            elif (fact := _fact(event, memory)) is not None:
                device.tell(at_ns, fact)
        if events:
            self._settle(clock.to_host(events[-1].time_ns), events, lost)
        return Joined(clock, len(events), unmatched, lost)

    def _settle(self, at_ns: int, events: Sequence[TraceEvent], lost: int) -> None:
        self._device.tell(at_ns, GuestSettled(lost))
        any_pool, inflight = _pool_pages(events)
        if self._pools_known and not lost and any_pool:
            self._device.tell(at_ns, PoolCounted(inflight))


def _pool_pages(events: Sequence[TraceEvent]) -> tuple[bool, int]:
    """Whether pools of this device took pages, and how many they have out at the end.

    The guest does not say whose a pool is. A page that this device has mapped when it enters a pool
    is this device's; one that leaves a pool and was not seen to enter it is of a pool that is older
    than the trace.
    """
    mapped: dict[int, range] = {}  # IOVA page -> frames
    frames: Counter[int] = Counter()
    held: set[int] = set()
    any_pool = False
    for event in events:
        page, frame = event.iova >> PAGE_SHIFT, event.phys >> PAGE_SHIFT
        if event.kind is Traced.MAPPED:
            last = (event.phys + max(event.size, 1) - 1) >> PAGE_SHIFT
            mapped[page] = range(frame, last + 1)
            frames.update(mapped[page])
        elif event.kind is Traced.UNMAPPED:
            frames.subtract(mapped.pop(page, ()))
        elif event.kind is Traced.HOLD and frames[event.iova] > 0:
            any_pool = True
            held.add(event.iova)
        elif event.kind is Traced.RELEASE:
            held.discard(event.iova)
    return any_pool, len(held)


def _fact(event: TraceEvent, memory: Memory | None) -> Fact | None:
    match event.kind:
        case Traced.MAPPED:
            return GuestMapped(event.iova, event.size, event.phys)
        case Traced.ALLOCATED:
            return GuestMapped(event.iova, event.size, coherent=True)
        case Traced.FREEING:
            return GuestUnmapped(event.iova, event.size)
        case Traced.HEAD if memory is not None:
            return HeadBuilt(target_of(memory, event.iova & OFFSET_MASK) >> PAGE_SHIFT)
        case _:
            return None


def _samples(
    device: DeviceLedger, events: Sequence[TraceEvent], since_ns: int
) -> tuple[list[Sample], int]:
    """A sample of each map that both sides saw, and the number of the others.

    Paired by page, in order: the first map of a page there is the first map of it here.
    """
    seen = _maps_seen(device, since_ns)
    table: dict[int, int] = {}
    samples, unmatched = [], 0
    for event in events:
        page = event.iova >> PAGE_SHIFT
        if event.kind is Traced.TABLE:
            table[page] = event.time_ns
        elif event.kind in (Traced.MAPPED, Traced.ALLOCATED):
            if seen[page] and page in table:
                samples.append((table.pop(page), event.time_ns, seen[page].popleft()))
            else:
                unmatched += 1
    return samples, unmatched


def _maps_seen(device: DeviceLedger, since_ns: int) -> defaultdict[int, deque[int]]:
    found: defaultdict[int, deque[int]] = defaultdict(deque)
    for chunk in device.timeline.chunks():
        mine = (chunk["kind"] == EventKind.MAP) & (chunk["device"] == device.state.number)
        rows = chunk[mine & (chunk["time_ns"] >= since_ns)]
        for time_ns, iova in zip(rows["time_ns"].tolist(), rows["iova"].tolist(), strict=True):
            found[iova >> PAGE_SHIFT].append(time_ns)
    return found
