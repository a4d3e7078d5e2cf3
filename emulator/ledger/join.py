# SPDX-License-Identifier: MIT
"""The guest's trace of its DMA API, joined with the ledger of one device on one clock.

The trace comes in batches while the guest runs. Each is told to the ledger at once, at the times of
the guest's clock as it is known then, with the error that this leaves. A trace with a gap can no
longer be paired map by map: from there on the clock rests on ticks alone, windows are no longer
taken from the guest's unmaps, and the rules that need a whole trace say that they do not judge.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from emulator.iommu.mapping import OFFSET_MASK, PAGE_SHIFT, Memory, target_of
from emulator.ledger.clock import ClockError, ClockMap
from emulator.ledger.device import DeviceLedger
from emulator.ledger.facts import (
    Fact,
    Freed,
    GuestMapped,
    GuestSettled,
    GuestUnmapped,
    HeadBuilt,
    Held,
    PoolCounted,
)
from emulator.ledger.guest_clock import GuestClock, MapSample, Tick
from emulator.ledger.map_pairs import MapPairs
from emulator.ledger.signals import Signal
from emulator.ledger.traced import Traced, TraceEvent


@dataclass(frozen=True, slots=True)
class Joined:
    """What a trace told of one device.

    clock: as it was last known. error_ns: how far times of the last batches may be off. events,
    counts, sizes: of the trace: all, and by the name of their :class:`Traced` how many and how many
    bytes they were of. samples: of the clock.
    unmatched: maps that only one side saw. lost: events that the tracer's buffers overwrote.
    """

    clock: ClockMap
    error_ns: int
    events: int
    samples: int
    unmatched: int
    lost: int
    counts: dict[str, int]
    sizes: dict[str, int]


class GuestView:
    """What the guest of one device traces, told to the device's ledger batch by batch.

    clock: of the guest; devices of one guest may share it. Pools are counted in a trace that
    began while no driver was bound.
    """

    def __init__(self, device: DeviceLedger, clock: GuestClock | None = None) -> None:
        self._device = device
        self._clock = GuestClock() if clock is None else clock
        self._pairs = MapPairs()
        self._pools_known = False
        self._counts: Counter[Traced] = Counter()
        self._sizes: Counter[Traced] = Counter()
        self._lost = 0
        self._last_ns = 0
        self._memory: Memory | None = None
        self._maps: list[MapSample] = []
        self._taken: list[TraceEvent] = []
        self._waiting: deque[TraceEvent] = deque()

    def begin(self, now_ns: int, stack: bool = False) -> None:
        """The guest's tracer runs from now on; ``stack``: it tells what the stack holds, too."""
        state = self._device.state
        bound = Signal.MARK in state.signals and state.driver_removed_ns is None
        self._pools_known = not bound
        self._counts.clear()
        self._sizes.clear()
        self._lost = 0
        self._pairs = MapPairs()
        self._device.watch_maps(self._pairs.device_mapped)
        self._device.trace_begins(now_ns, stack)

    def take(self, events: Sequence[TraceEvent], lost: int = 0) -> None:
        """Takes a part of what was traced since the last tick; nothing is told yet.

        events: of this device, and of no device (tables, heads). lost: events that are missing
        among them.
        """
        if lost:
            self._gap(lost)
        self._maps += self._pairs.take(events)
        self._device.state.traced += len(events)
        self._taken.extend(events)

    def ticked(self, memory: Memory | None, tick: Tick | None) -> None:
        """All up to ``tick`` is taken: draws the clock by which :meth:`tell` tells it.

        memory: the guest's.

        Raises:
            ClockError: without a tick, and guest and device never had a map in common.
        """
        self._memory = memory
        self._clock.learn(tick, self._maps)
        if self._taken:
            self._clock.used()
        self._device.clock_error(self._clock.error_ns)
        self._waiting.extend(self._taken)
        self._maps, self._taken = [], []

    def tell(self, most: int | None = None) -> int:
        """Tells the ledger what was taken up to the last tick, in order and on its clock.

        Returns how many events are still to be told, after ``most`` (None: all) have been.
        """
        clock, waiting = self._clock.map, self._waiting
        if clock is None:
            return 0
        count = len(waiting) if most is None else min(most, len(waiting))
        for _ in range(count):
            event = waiting.popleft()
            self._last_ns = event.time_ns
            self._tell(clock.to_host(event.time_ns), event)
        return len(waiting)

    def settle(self) -> Joined:
        """The trace is over and nothing is under way.

        Raises:
            ClockError: nothing was taken.
        """
        self.tell()
        self._device.watch_maps(None)
        clock = self._clock.map
        if clock is None:
            raise ClockError("the guest's trace was never heard of: no tick came")
        counts, at_ns = self._counts, clock.to_host(self._last_ns)
        if not self._lost:
            self._device.tell(at_ns, GuestSettled())
        if self._pools_known and not self._lost and counts[Traced.HOLD]:
            inflight = counts[Traced.HOLD] - counts[Traced.RELEASE]
            self._device.tell(at_ns, PoolCounted(inflight))
        return Joined(
            clock=clock,
            error_ns=self._clock.error_ns,
            events=counts.total(),
            samples=self._clock.samples,
            unmatched=self._pairs.unmatched,
            lost=self._lost,
            counts={kind.name: count for kind, count in counts.items()},
            sizes={kind.name: size for kind, size in self._sizes.items()},
        )

    def _gap(self, lost: int) -> None:
        self._lost += lost
        self._device.trace_lost(lost)
        self._pairs.give_up()

    def _tell(self, at_ns: int, event: TraceEvent) -> None:
        self._counts[event.kind] += 1
        self._sizes[event.kind] += event.size
        if event.kind is Traced.UNMAPPED and not self._lost:
            self._device.guest_unmapped(at_ns, event.iova, event.size)
        elif (fact := _fact(event, self._memory)) is not None:
            self._device.tell(at_ns, fact)


def _fact(event: TraceEvent, memory: Memory | None) -> Fact | None:
    match event.kind:
        case Traced.MAPPED:
            return GuestMapped(event.iova, event.size, event.phys)
        case Traced.ALLOCATED:
            return GuestMapped(event.iova, event.size, coherent=True)
        case Traced.FREEING | Traced.UNMAPPED:
            return GuestUnmapped(event.iova, event.size)
        case Traced.HEAD if memory is not None:
            return HeadBuilt(target_of(memory, event.iova & OFFSET_MASK) >> PAGE_SHIFT)
        case Traced.KEPT if memory is not None:
            return Held((target_of(memory, event.iova & OFFSET_MASK),))
        case Traced.LET_GO if memory is not None:
            return Freed((target_of(memory, event.iova & OFFSET_MASK),))
        case _:
            return None
