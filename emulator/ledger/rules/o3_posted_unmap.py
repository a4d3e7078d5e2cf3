# SPDX-License-Identifier: MIT
"""O-3: the driver does not unmap what the device still owns."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.iommu.mapping import PAGE_SHIFT, PAGE_SIZE, Mapping
from emulator.ledger.live import overlap
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal


class PostedUnmapRule(Rule):
    """No page is unmapped while a buffer in it is posted on a running ring.

    A page whose buffers were all returned may go; so may anything once its ring has stopped. Nor
    is a page unmapped twice: the second time may hit whoever was given its IOVA in between.
    """

    number = "O-3"
    title = "no unmap of a buffer that the device still owns"
    needs = frozenset({Signal.MAP, Signal.RING})
    speaks = "when the unmap is asked for, before it is done; when a page of it was not mapped"

    def unmap_requested(self, now_ns: int, iova: int, size: int) -> None:
        """One look-up per running ring for a page, the smaller side for a large range.

        Silent while the device may not do DMA: a driver whose device does not stop takes its bus
        mastering away, and then the memory.
        """
        if not self.state.gate_open:
            return None
        if size == PAGE_SIZE:
            page = iova >> PAGE_SHIFT
            for posted in self.state.posted.values():
                if page in posted:
                    return self._speak(now_ns, iova, size)
        elif any(overlap(posted, iova, size) for posted in self.state.posted.values()):
            self._speak(now_ns, iova, size)
        return None

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """A request for one page must have removed it; large ones may sweep what is empty."""
        request = self.state.request
        if not mappings and request is not None and request[1] == PAGE_SIZE:
            cause = "unmap of a page that is not mapped: it was unmapped before (driver bug)"
            self.report(now_ns, cause, *request)

    def _speak(self, now_ns: int, iova: int, size: int) -> None:
        for (queue, kind), posted in self.state.posted.items():
            for page in overlap(posted, iova, size):
                count = posted[page]
                cause = (
                    f"unmap of a page with {count} buffer(s) posted on {kind.value} of queue "
                    f"{queue}: the device still owns them (driver bug)"
                )
                self.report(now_ns, cause, page << PAGE_SHIFT, PAGE_SIZE)
