# SPDX-License-Identifier: MIT
"""O-8: every mapped receive page is somebody's."""

from __future__ import annotations

from emulator.iommu.mapping import PAGE_SHIFT
from emulator.ledger.facts import Fact, PoolCounted
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal
from emulator.ports import RingKind


class PoolPagesRule(Rule):
    """Pages that the device can write, but for rings and the baseline, are the pools' pages.

    And those are posted, cached or held by the stack; a page held for long is no leak. Under a lazy
    policy there may be more mappings than pool pages.
    """

    number = "O-8"
    title = "mapped receive pages are those that are posted, cached or held by the stack"
    speaks = "when the pools are counted"
    needs = frozenset({Signal.MAP, Signal.RING, Signal.POOL})
    facts = (PoolCounted,)

    def told(self, now_ns: int, fact: Fact) -> None:
        """Compares the device's view with the pools' own counts."""
        if not isinstance(fact, PoolCounted):
            return
        mapped = self._mapped()
        if mapped < fact.inflight or (mapped > fact.inflight and not self.state.policy.lazy):
            cause = (
                f"{mapped} pages are mapped for receive, but the pools count {fact.inflight}: "
                + ("a page was freed mapped" if mapped > fact.inflight else "one was unmapped")
            )
            self.report(now_ns, cause, 0, abs(mapped - fact.inflight) << PAGE_SHIFT)
        if fact.cached is not None and fact.held is not None:
            self._judge_out(now_ns, fact, fact.cached, fact.held)

    def _judge_out(self, now_ns: int, fact: PoolCounted, cached: int, held: int) -> None:
        """Compares what is neither in the pools nor with the stack with what is posted."""
        posted, out = self._posted(), fact.inflight - cached - held
        most = max(posted, fact.slots or 0)
        seen = (
            f"of {fact.inflight} there are {posted} posted, {cached} cached, {held} with the stack"
        )
        if out > most:
            cause = f"{out - most} pages of the pools are nobody's: {seen} (leak)"
            self.report(now_ns, cause, 0, (out - most) << PAGE_SHIFT)
        elif out < posted:
            cause = f"{posted - out} posted pages of the pools are somebody else's, too: {seen}"
            self.report(now_ns, cause, 0, (posted - out) << PAGE_SHIFT)

    def _mapped(self) -> int:
        live, state = self.state.live, self.state
        ours = [m for m in live.mappings() if m.generation not in state.baseline and m.writable]
        pages = {page for m in ours for page in range(m.iova >> PAGE_SHIFT, m.end >> PAGE_SHIFT)}
        return len(pages.difference(state.ring_pages))

    def _posted(self) -> int:
        rings = self.state.posted.items()
        return len({page for key, ring in rings if key[1] is RingKind.RX_DESC for page in ring})
