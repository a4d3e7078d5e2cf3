# SPDX-License-Identifier: MIT
"""What every rule is: a number, what it looks at, and hooks for the events it wants.

A rule overrides only the hooks it needs; the ledger calls no others. Hooks run before the
device's facts change (see :mod:`emulator.ledger.state`). Lengths and IOVAs come in batches.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import OFFSET_MASK, PAGE_MASK, REMOTE, Mapping
from emulator.ledger.events import EventKind, Timeline
from emulator.ledger.facts import Fact
from emulator.ledger.policy import Mark
from emulator.ledger.shared import SharedFrames
from emulator.ledger.signals import FROM_TRACE, Signal
from emulator.ledger.state import DeviceState, Ring
from emulator.ledger.violation import Violation, ViolationLog
from emulator.ports import RingKind


@dataclass
class Commons:
    """What the rules of all devices of a ledger share; ``devices`` grows."""

    log: ViolationLog
    timeline: Timeline
    devices: list[DeviceState] = field(default_factory=list)
    frames: SharedFrames = field(default_factory=SharedFrames)


class Rule:
    """Base of the rules.

    A rule that is ``idle`` is told of nothing but facts until it says otherwise.

    number: as in reports. title: what must hold. speaks: when it reports. needs: without one of
    these signals it does not judge at all. helps: without one of these it does not judge what is
    said there. facts: types that :meth:`told` wants.
    """

    number: ClassVar[str]
    title: ClassVar[str]
    speaks: ClassVar[str]
    needs: ClassVar[frozenset[Signal]]
    helps: ClassVar[abc.Mapping[Signal, str]] = MappingProxyType({})
    facts: ClassVar[tuple[type[Fact], ...]] = ()

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        self.state = state
        self.commons = commons
        self.log, self.timeline = commons.log, commons.timeline
        self.idle = False

    def report(
        self, now_ns: int, cause: str, iova: int, size: int, mapping: Mapping | None = None
    ) -> None:
        """Logs a violation; ``mapping`` is the one concerned (default: the one at ``iova``).

        Not of pages whose map was refused by order: the driver was told that they are mapped.
        """
        if self.state.refused and self.state.was_refused(iova, size):
            self.log.ordered[self.number] += 1
            return
        if not self.log.has_room(self.number):
            self.log.count_only(self.number, 1)
            return
        mapping = self.state.live.find(iova) if mapping is None else mapping
        memory = page = generation = mapped_ns = None
        if mapping is not None:
            generation, mapped_ns = mapping.generation, mapping.mapped_ns
            if mapping.memory_index != REMOTE and mapping.iova <= iova < mapping.end:
                memory = mapping.memory_index
                page = (mapping.offset + iova - mapping.iova) & OFFSET_MASK & ~PAGE_MASK
        self.log.add(
            Violation(
                self.number, self.state.name, now_ns, cause, iova, size,
                memory, page, generation, mapped_ns,
            )
        )  # fmt: skip
        extra = int(self.number.removeprefix("O-"))
        self.timeline.add(
            now_ns, self.state.number, EventKind.VIOLATION, iova, size, generation or 0, extra
        )

    def not_judged(self) -> list[str]:
        """What the rule does not judge here for want of a signal; empty: it judges everything."""
        lost = self.state.trace_lost
        if lost and self.needs & FROM_TRACE:
            return [f"needs a whole trace; the guest's tracer lost {lost} events"]
        missing = sorted(self.needs - self.state.signals)
        if missing:
            return [f"needs {', '.join(missing)}"]
        helps = [(s, what) for s, what in self.helps.items() if s not in self.state.signals]
        unheard = [f"{what} (needs {signal})" for signal, what in helps]
        gaps = [what for signal, what in self.helps.items() if lost and signal in FROM_TRACE]
        return unheard + [f"{what} (the guest's tracer lost {lost} events)" for what in gaps]

    def peer_added(self) -> None:
        """Another device joined the ledger."""

    # The hooks. Times in ns, IOVAs and lengths in bytes; arrays are uint64[n], int64[n], bool[n].
    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """A mapping was made."""

    def unmap_requested(self, now_ns: int, iova: int, size: int) -> None:
        """The guest asks for the range to be unmapped; it is still mapped."""

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """Mappings are gone."""

    def accessed(
        self,
        now_ns: int,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        ok: NDArray[np.bool_],
        all_ok: bool,
        targets: NDArray[np.int64] | None,
    ) -> None:
        """Accesses were made (``ok``) or refused."""

    def access_refused(self, now_ns: int, iova: int, length: int, write: bool, reason: str) -> None:
        """One access was refused for ``reason``."""

    def gate_changed(self, now_ns: int, is_open: bool, why: str) -> None:
        """DMA of the device was allowed or forbidden."""

    def ring_started(self, now_ns: int, ring: Ring) -> None:
        """A ring belongs to the device."""

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        """A ring and its buffers belong to the driver."""

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Buffers belong to the device."""

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Buffers belong to the driver."""

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        """Frames were completed."""

    def window_ended(self, mapping: Mapping, since_ns: int, until_ns: int) -> None:
        """A mapping outlived the guest's own unmap of it."""

    def told(self, now_ns: int, fact: Fact) -> None:
        """A fact of one of the types in ``facts``."""

    def looked(self, now_ns: int) -> None:
        """Somebody wants a verdict: the time for what is judged by the passing of time."""

    def marked(self, now_ns: int, mark: Mark) -> None:
        """The guest said so."""

    def reset(self, now_ns: int) -> None:
        """The device was reset, or its client is gone."""
