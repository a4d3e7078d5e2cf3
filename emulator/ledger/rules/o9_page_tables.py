# SPDX-License-Identifier: MIT
"""O-9: what the device can reach is what the guest has mapped."""

from __future__ import annotations

from emulator.iommu.mapping import PAGE_SHIFT, PAGE_SIZE
from emulator.ledger.facts import Fact, GuestMapped, GuestSettled, GuestUnmapped, TraceBegan
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState


class PageTableRule(Rule):
    """After the guest has settled, its DMA mappings and the device's are the same pages.

    A page that only the device has was not invalidated (under a lazy policy: not yet); one that
    only the guest has was invalidated too widely, or never reached the device.
    """

    number = "O-9"
    title = "the device's mappings are the guest's, after each invalidation"
    speaks = "when the guest has settled"
    needs = frozenset({Signal.MAP, Signal.TRACE})
    facts = (TraceBegan, GuestMapped, GuestUnmapped, GuestSettled)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._pages: dict[int, int] = {}
        self._before: set[int] = set()

    def told(self, now_ns: int, fact: Fact) -> None:
        """Keeps the guest's pages, and compares when all is told.

        What is mapped when the trace begins was mapped by somebody: it is not looked at.
        """
        if isinstance(fact, TraceBegan):
            self._pages.clear()
            self._before = {mapping.generation for mapping in self.state.live.mappings()}
        elif isinstance(fact, GuestSettled):
            self._compare(now_ns)
        elif isinstance(fact, GuestMapped):
            for page in _pages(fact.iova, fact.size):
                self._pages[page] = self._pages.get(page, 0) + 1
        elif isinstance(fact, GuestUnmapped):
            for page in _pages(fact.iova, fact.size):
                if self._pages.pop(page, 0) > 1:
                    self._pages[page] = 1

    def _compare(self, now_ns: int) -> None:
        owners = self.state.live.owners
        before = self._before | self.state.baseline
        ours = {page for page, mapping in owners.items() if mapping.generation not in before}
        for page in sorted(self._pages.keys() - owners.keys()):
            cause = "the guest has this page mapped, the device does not: invalidated too widely"
            self.report(now_ns, cause, page << PAGE_SHIFT, PAGE_SIZE)
        if self.state.policy.lazy:
            return
        for page in sorted(ours - self._pages.keys()):
            cause = "the device still has this page, the guest has given it up: not invalidated"
            self.report(now_ns, cause, page << PAGE_SHIFT, PAGE_SIZE)


def _pages(iova: int, size: int) -> range:
    return range(iova >> PAGE_SHIFT, ((iova + max(size, 1) - 1) >> PAGE_SHIFT) + 1)
