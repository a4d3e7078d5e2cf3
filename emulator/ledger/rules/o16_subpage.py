# SPDX-License-Identifier: MIT
"""O-16: what lies in a mapped page beside what was mapped."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.facts import Fact, GuestMapped, HeadBuilt, TraceBegan
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.shared import frames_of
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState

HISTORY = 1 << 16
NEVER = 1 << 63
Life = tuple[Mapping, int]


class SubpageRule(Rule):
    """The bytes a device reaches but was not given, and skb heads among them.

    mapped_bytes: what the guest's DMA API was asked to map; reachable_bytes: the pages of it;
    asked: calls. heads: skb heads, with the pointers of their shared info, that were built in a
    page while the device could write it: by design where the strategy keeps pages mapped while the
    stack reads them (``DeviceState.mapped_while_read``), exposure under a lazy policy, a driver bug
    elsewhere.
    """

    number = "O-16"
    title = "device-reachable bytes beside the mapped ones; no skb head in a page it can write"
    speaks = "at a head built where the device can write (unless the strategy is known to do so)"
    needs = frozenset({Signal.MAP, Signal.TRACE})
    facts = (TraceBegan, GuestMapped, HeadBuilt)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self.asked = self.mapped_bytes = self.reachable_bytes = 0
        self.heads = 0
        self.idle = True
        self._lives: dict[int, dict[int, Life]] = {}
        self._ended: deque[tuple[int, int]] = deque()

    @property
    def beside_bytes(self) -> int:
        """Bytes reachable without having been mapped, summed over all maps of the trace."""
        return self.reachable_bytes - self.mapped_bytes

    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """The frame may be written from now on."""
        if mapping.writable:
            for _, frame in frames_of(mapping):
                self._lives.setdefault(frame, {})[mapping.generation] = (mapping, NEVER)

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """And until now."""
        for mapping in mappings:
            for _, frame in frames_of(mapping):
                lives = self._lives.get(frame, {})
                if mapping.generation in lives:
                    lives[mapping.generation] = (mapping, now_ns)
                    self._ended.append((frame, mapping.generation))
        while len(self._ended) > HISTORY:
            frame, generation = self._ended.popleft()
            self._lives[frame].pop(generation, None)

    def told(self, now_ns: int, fact: Fact) -> None:
        """Counts bytes; judges heads by what the device could write at their time."""
        if isinstance(fact, TraceBegan):
            self._begin()
        elif isinstance(fact, GuestMapped) and not fact.coherent:
            self.asked += 1
            self.mapped_bytes += fact.size
            first, last = fact.iova >> PAGE_SHIFT, (fact.iova + fact.size - 1) >> PAGE_SHIFT
            self.reachable_bytes += (last - first + 1) << PAGE_SHIFT
        elif isinstance(fact, HeadBuilt):
            mapping = self._writable_at(fact.frame, now_ns)
            if mapping is not None:
                self.heads += 1
                self._judge(now_ns, fact.frame, mapping)

    def _begin(self) -> None:
        """With a trace to come, frames are remembered from here on."""
        self.idle = False
        self._lives.clear()
        self._ended.clear()
        for mapping in self.state.live.mappings():
            self.mapped(0, mapping)

    def _judge(self, now_ns: int, frame: int, mapping: Mapping) -> None:
        if self.state.mapped_while_read or self.state.policy.lazy:
            return
        cause = (
            "an skb head was built in a page that the device can write: it can change the "
            "pointers of the shared info (driver bug)"
        )
        page = next(page for page, other in frames_of(mapping) if other == frame)
        self.report(now_ns, cause, page << PAGE_SHIFT, 1 << PAGE_SHIFT, mapping)

    def _writable_at(self, frame: int, now_ns: int) -> Mapping | None:
        """The mapping through which the device could write the frame then, beyond doubt."""
        error_ns = self.state.clock_error_ns
        for mapping, gone_ns in self._lives.get(frame, {}).values():
            if mapping.mapped_ns + error_ns <= now_ns < gone_ns - error_ns:
                return mapping
        return None
