# SPDX-License-Identifier: MIT
"""The ledger of one device: takes its events, asks the rules, keeps the facts.

Implements :class:`emulator.ports.Observer` (ring ownership, told by the device) and
:class:`emulator.iommu.dma.AccessLog` (its DMA); maps, unmaps and the gate are told by the session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import IOVA_END, PAGE_SHIFT, Mapping
from emulator.ledger.events import EventKind
from emulator.ledger.facts import Armed, Fact, GuestUnmapped, TraceBegan
from emulator.ledger.flush import FlushRows
from emulator.ledger.policy import Mark
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.rules.catalogue import RULES
from emulator.ledger.rules.o18_amortisation import Amortisation, AmortisationRule
from emulator.ledger.signals import Signal
from emulator.ledger.stale import StaleTracker
from emulator.ledger.state import DeviceState, Ring
from emulator.ports import RingKind

RuleT = TypeVar("RuleT", bound=Rule)

_RING_CODE = {kind: code for code, kind in enumerate(RingKind)}
_NOTES = {
    1: (Mark.BASELINE, Mark.DRIVER_BOUND),
    2: (Mark.RELEASED,),
    3: (Mark.DRIVER_REMOVED,),
}
# Values of EventKind, as plain ints: an enum attribute costs more than the event.
_MAP, _UNMAP_REQUEST, _UNMAP = (
    EventKind.MAP.value,
    EventKind.UNMAP_REQUEST.value,
    EventKind.UNMAP.value,
)
_READ, _WRITE = EventKind.READ.value, EventKind.WRITE.value
_READ_REFUSED, _WRITE_REFUSED = EventKind.READ_REFUSED.value, EventKind.WRITE_REFUSED.value


class DeviceLedger:
    """One device on the ledger's timeline; made by :meth:`emulator.ledger.Ledger.device`.

    Args:
        state: of the device.
        commons: shared with the ledger's other devices.
        rules: classes of the rules that judge it.
    """

    def __init__(
        self, state: DeviceState, commons: Commons, rules: Sequence[type[Rule]] = RULES
    ) -> None:
        self.state = state
        self.name = state.name
        self.live = state.live
        self.stale = StaleTracker(state.live, self._window_ended)
        self.flushes = FlushRows()
        self.rules = [rule(state, commons) for rule in rules]
        self.live_at_released: int | None = None
        self._number = state.number
        self.timeline = commons.timeline
        self._note = commons.timeline.add
        self._windows: dict[str, Amortisation] = {}
        self._watcher: Callable[[int, Mapping], None] | None = None
        self._find_hooks()

    def peer_added(self) -> None:
        """Another device joined the ledger."""
        for rule in self.rules:
            rule.peer_added()
        self._find_hooks()

    def provides(self, *signals: Signal) -> None:
        """The rung promises ``signals``: rules that need them judge from now on."""
        self.state.signals.update(signals)

    def trace_begins(self, now_ns: int, stack: bool = False) -> None:
        """The guest traces its DMA API from now on, and all of it will be told.

        stack: and what its stack holds.
        """
        self.stale.trace_begins()
        self.tell(now_ns, TraceBegan(stack))
        if stack:
            self.provides(Signal.STACK)
        self._find_hooks()

    def watch_maps(self, watcher: Callable[[int, Mapping], None] | None) -> None:
        """Tells ``watcher`` of each map from now on (None: nobody), with its time in ns."""
        self._watcher = watcher
        self._find_hooks()

    def trace_lost(self, events: int) -> None:
        """The trace has a gap of so many events: what it would have shown is not known."""
        self.state.trace_lost += events
        self.stale.trace_begins()

    def clock_error(self, error_ns: int) -> None:
        """How far the times that the guest told, and will tell, may be off."""
        self.state.clock_error_ns = self.stale.slack_ns = error_ns

    def tell(self, now_ns: int, fact: Fact) -> None:
        """``fact`` was so at ``now_ns``, on the clock of the ledger; may be told late."""
        self.state.signals.add(fact.signal)
        for judge in self._on_told.get(type(fact), ()):
            judge(now_ns, fact)
        place = fact.place()
        if place is None:
            place = 0, 0, self.timeline.name_number(type(fact).__name__)
        iova, size, extra = place
        self._note(now_ns, self._number, fact.event, iova, size, extra=extra)

    def look(self, now_ns: int) -> None:
        """Somebody wants a verdict: rules that judge by the passing of time look at the clock."""
        for rule in self.rules:
            rule.looked(now_ns)

    def not_judged(self) -> dict[str, list[str]]:
        """Rule to what it does not judge here, of those that do not judge everything."""
        found = {rule.number: rule.not_judged() for rule in self.rules}
        return {number: why for number, why in found.items() if why}

    # ------------------------------------------------------------------ mappings (session)
    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """The client mapped; told once the mapping is alive."""
        for judge in self._on_mapped:
            judge(now_ns, mapping)
        if self.state.refused:
            self.state.no_longer_refused(mapping.iova, mapping.size)
        self.live.add(mapping)
        self._note(now_ns, self._number, _MAP, mapping[0], mapping[1], mapping[6], mapping[3])

    def map_refused(self, now_ns: int, iova: int, size: int) -> None:
        """The device was refused this by order, and the guest may not know."""
        self.state.refused.update(range(iova >> PAGE_SHIFT, (iova + size - 1 >> PAGE_SHIFT) + 1))
        self._note(now_ns, self._number, EventKind.MAP_REFUSED, iova, size)

    def unmap_requested(self, now_ns: int, iova: int, size: int) -> None:
        """The client asks for an unmap; told before anything is removed (all: 0, 2^64)."""
        self.state.request = (iova, size)
        for judge in self._on_unmap_requested:
            judge(now_ns, iova, size)
        self._note(now_ns, self._number, _UNMAP_REQUEST, iova, size)

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """What the last request removed, possibly nothing; told before the reply."""
        for judge in self._on_unmapped:
            judge(now_ns, mappings)
        if self.state.refused:
            self.state.no_longer_refused(*(self.state.request or (0, IOVA_END)))
        self.state.request = None
        for mapping in mappings:
            self.live.remove(mapping)
            self._note(
                now_ns, self._number, _UNMAP, mapping[0], mapping[1], mapping[6],
                max(now_ns - mapping[7], 0),
            )  # fmt: skip
        self.stale.unmapped(now_ns, mappings)
        # More than one by a message is a sweep over all there is, or the end of the client.
        if self.state.policy.lazy and len(mappings) == 1:
            self.flushes.unmapped(now_ns, self.live.count)

    def guest_unmapped(self, now_ns: int, iova: int, size: int) -> None:
        """The guest's own time of giving the range up; may be told late."""
        self.stale.guest_unmapped(now_ns, iova, size)
        if self.stale.missed:
            self.trace_lost(self.stale.missed)
            self.stale.missed = 0
        self.tell(now_ns, GuestUnmapped(iova, size))

    def _window_ended(self, mapping: Mapping, since_ns: int, until_ns: int) -> None:
        for rule in self.rules:
            rule.window_ended(mapping, since_ns, until_ns)

    # ------------------------------------------------------------------ accesses (SpaceDma)
    def accessed(
        self,
        now_ns: int,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        ok: NDArray[np.bool_],
        targets: NDArray[np.int64] | None = None,
    ) -> None:
        """See :meth:`emulator.iommu.dma.AccessLog.accessed`."""
        all_ok = int(np.count_nonzero(ok)) == len(ok)
        for judge in self._on_accessed:
            judge(now_ns, iovas, lengths, write, ok, all_ok, targets)
        add = self.timeline.add_batch
        done, refused = (_WRITE, _WRITE_REFUSED) if write else (_READ, _READ_REFUSED)
        if all_ok:
            add(now_ns, self._number, done, iovas, lengths)
        else:
            add(now_ns, self._number, done, iovas[ok], lengths[ok])
            add(now_ns, self._number, refused, iovas[~ok], lengths[~ok])

    def access_refused(self, now_ns: int, iova: int, length: int, write: bool, reason: str) -> None:
        """See :meth:`emulator.iommu.dma.AccessLog.access_refused`."""
        for judge in self._on_access_refused:
            judge(now_ns, iova, length, write, reason)
        kind = _WRITE_REFUSED if write else _READ_REFUSED
        self._note(now_ns, self._number, kind, iova % IOVA_END, max(length, 0))

    # ------------------------------------------------------------------ state (session, PCI)
    def gate_changed(self, now_ns: int, is_open: bool, why: str = "") -> None:
        """Whether the device may do DMA from now on; ``why`` says what closed it."""
        self.provides(Signal.CFG)
        for rule in self.rules:
            rule.gate_changed(now_ns, is_open, why)
        self.state.gate_open, self.state.gate_why = is_open, why
        self._note(now_ns, self._number, EventKind.GATE, extra=int(is_open))

    def reset(self, now_ns: int) -> None:
        """The device was reset: rings and posted buffers are the driver's; mappings stay."""
        for rule in self.rules:
            rule.reset(now_ns)
        self.state.stop_all()
        self._note(now_ns, self._number, EventKind.RESET)

    def closed(self, now_ns: int) -> None:
        """The client is gone: what it had mapped is gone with it, and nobody is to blame."""
        self.state.stop_all()
        self.state.request = None
        self.state.gate_open, self.state.gate_why = False, "the client is gone"
        self._note(now_ns, self._number, EventKind.CLOSED)
        self.unmapped(now_ns, self.live.mappings())
        self.stale.forget()

    def marked(self, now_ns: int, name: str) -> None:
        """The guest said so; names in :class:`Mark` mean something, others are recorded."""
        number = self.timeline.name_number(name)
        self._note(now_ns, self._number, EventKind.MARK, extra=number)
        if name not in set(Mark):
            return
        self.provides(Signal.MARK)
        mark = Mark(name)
        for rule in self.rules:
            rule.marked(now_ns, mark)
        if mark is Mark.BASELINE:
            self.state.baseline = {m.generation for m in self.live.mappings()}
        elif mark is Mark.DRIVER_BOUND:
            self.state.driver_removed_ns = self.live_at_released = None
        else:
            stale = self.stale.released(now_ns, self.state.baseline)
            self.live_at_released = max(stale, self.live_at_released or 0)
            if mark is Mark.DRIVER_REMOVED:
                self.state.driver_removed_ns = now_ns

    # ------------------------------------------------------------------ rings (Observer)
    def ring_started(self, now_ns: int, queue: int, kind: RingKind, iova: int, size: int) -> None:
        """See :meth:`emulator.ports.Observer.ring_started`."""
        self.provides(Signal.RING)
        ring = Ring(queue, kind, iova, size, now_ns)
        for rule in self.rules:
            rule.ring_started(now_ns, ring)
        self.state.start_ring(ring)
        code = _code(queue, kind)
        self._note(now_ns, self._number, EventKind.RING_STARTED, iova, size, extra=code)

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        """See :meth:`emulator.ports.Observer.ring_stopped`."""
        for rule in self.rules:
            rule.ring_stopped(now_ns, queue, kind)
        self.state.stop_ring((queue, kind))
        self._note(now_ns, self._number, EventKind.RING_STOPPED, extra=_code(queue, kind))

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """See :meth:`emulator.ports.Observer.posted`."""
        for judge in self._on_posted:
            judge(now_ns, queue, kind, iovas, lengths)
        self.state.post((queue, kind), iovas, lengths)
        self._note_batch(now_ns, EventKind.POSTED, queue, kind, iovas)

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """See :meth:`emulator.ports.Observer.returned`."""
        for judge in self._on_returned:
            judge(now_ns, queue, kind, iovas, lengths)
        self.state.give_back((queue, kind), iovas, lengths)
        self._note_batch(now_ns, EventKind.RETURNED, queue, kind, iovas)

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        """See :meth:`emulator.ports.Observer.packets`."""
        for judge in self._on_packets:
            judge(now_ns, queue, kind, count)
        code = _code(queue, kind)
        self._note(now_ns, self._number, EventKind.PACKETS, size=count, extra=code)

    def armed(self, now_ns: int, queue: int, seen: int, done: int, sizes: tuple[int, int]) -> None:
        """See :meth:`emulator.ports.Observer.armed`."""
        rx_size, tx_size = sizes
        rx = seen & 0xFFFF, done & 0xFFFF, rx_size
        self.tell(now_ns, Armed(queue, *rx, seen >> 16, done >> 16, tx_size))

    def note(self, now_ns: int, value: int) -> None:
        """See :meth:`emulator.ports.Observer.note`: 1 bound, 2 memory given back, 3 gone.

        What is alive when a driver is bound is the baseline: it has mapped nothing yet.
        """
        self._note(now_ns, self._number, EventKind.NOTE, extra=value)
        for mark in _NOTES.get(value, ()):
            self.marked(now_ns, mark)

    # ------------------------------------------------------------------ counts
    @property
    def totals(self) -> Amortisation:
        """Exact counts since the device joined the ledger."""
        rule = self.rule(AmortisationRule)
        return Amortisation() if rule is None else rule.total

    def window_begin(self, now_ns: int, name: str) -> None:
        """Starts counting under ``name``; again: starts over."""
        self._windows[name] = self.totals.minus(Amortisation(), now_ns)

    def window_end(self, now_ns: int, name: str) -> Amortisation:
        """The counts since :meth:`window_begin`.

        Raises:
            KeyError: no window of that name was begun.
        """
        return self.totals.minus(self._windows.pop(name), now_ns)

    def rule(self, kind: type[RuleT]) -> RuleT | None:
        """The rule of that class, if it is in force."""
        return next((rule for rule in self.rules if isinstance(rule, kind)), None)

    def _find_hooks(self) -> None:
        """Looks up once what the frequent events have to call."""
        self._on_mapped = self._hooks("mapped")
        if self._watcher is not None:
            self._on_mapped += (self._watcher,)
        self._on_unmap_requested = self._hooks("unmap_requested")
        self._on_unmapped = self._hooks("unmapped")
        self._on_accessed = self._hooks("accessed")
        self._on_access_refused = self._hooks("access_refused")
        self._on_posted = self._hooks("posted")
        self._on_returned = self._hooks("returned")
        self._on_packets = self._hooks("packets")
        self._on_told: dict[type[Fact], list[Callable[..., None]]] = {}
        for rule in self.rules:
            for kind in rule.facts:
                self._on_told.setdefault(kind, []).append(rule.told)

    def _hooks(self, name: str) -> tuple[Callable[..., None], ...]:
        """The hook of every rule that has its own and is not idle."""
        return tuple(
            getattr(rule, name)
            for rule in self.rules
            if not rule.idle and getattr(type(rule), name) is not getattr(Rule, name)
        )

    def _note_batch(
        self, now_ns: int, event: EventKind, queue: int, kind: RingKind, iovas: NDArray[np.uint64]
    ) -> None:
        if len(iovas):
            first, code = int(iovas[0]), _code(queue, kind)
            self._note(now_ns, self._number, event, first, len(iovas), extra=code)


def _code(queue: int, kind: RingKind) -> int:
    return queue << 8 | _RING_CODE[kind]
