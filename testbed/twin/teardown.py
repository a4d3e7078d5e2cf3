# SPDX-License-Identifier: MIT
"""The end of a run: what is still alive when the drivers are gone, and the last flush."""

from __future__ import annotations

from emulator.iommu.model import unit
from emulator.kernel import compiled
from emulator.ledger.columns import judge
from emulator.ledger.columns.book import LIVE_NOW
from testbed.twin.host import Host, end_mappings


@compiled
def live_mappings(host: Host) -> int:
    """Mappings alive at the moment at which the pools are closed, timers due by then included."""
    unit.advance(host.io, host.clock[0])
    end_mappings(host)
    return host.book.n[LIVE_NOW]


@compiled
def let_everything_end(host: Host) -> int:
    """The last flush of the IOMMU driver; then O-7 is judged. Mappings that nobody gave up."""
    unit.drain(host.io, host.clock[0])
    end_mappings(host)
    return judge.closed(host.book, host.clock[0], 0)
