# SPDX-License-Identifier: MIT
"""O-4: the memory of a running ring stays, and so does its base."""

from __future__ import annotations

from emulator.iommu.mapping import PAGE_SHIFT, PAGE_SIZE
from emulator.ledger.live import overlap
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import Ring


class RingMemoryRule(Rule):
    """A ring is neither unmapped nor moved while it runs."""

    number = "O-4"
    title = "no ring is freed or moved while it runs"
    needs = frozenset({Signal.MAP, Signal.RING})
    speaks = "when the unmap is asked for; when a running ring is started again"

    def unmap_requested(self, now_ns: int, iova: int, size: int) -> None:
        """One look-up for a page, the smaller side for a large range; see O-3 for the gate."""
        if not self.state.gate_open:
            return
        pages = self.state.ring_pages
        if size == PAGE_SIZE and iova >> PAGE_SHIFT not in pages:
            return
        for page in overlap(pages, iova, size):
            rings = ", ".join(sorted(str(self.state.rings[key]) for key in pages[page]))
            cause = f"unmap of the memory of a running ring: {rings}"
            self.report(now_ns, cause, page << PAGE_SHIFT, PAGE_SIZE)

    def ring_started(self, now_ns: int, ring: Ring) -> None:
        """A ring that starts must not be running."""
        running = self.state.rings.get((ring.queue, ring.kind))
        if running is not None:
            cause = f"running ring {running} was given a new base without being stopped"
            self.report(now_ns, cause, ring.iova, ring.size)
