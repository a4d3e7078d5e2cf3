# SPDX-License-Identifier: MIT
"""How many mappings a lazy guest left stale at once, from the rows in which it removes them."""

from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger, Policy
from emulator.ledger.device import DeviceLedger
from emulator.ledger.flush import GAP_NS

PAGE = 4096


class Host:
    """An address space and its ledger; time passes by 100 us with each step."""

    def __init__(self, lazy: bool = True) -> None:
        self.now_ns = 0
        self.space = AddressSpace("nic0")
        self.ledger: DeviceLedger = Ledger(lambda: self.now_ns, Policy(lazy=lazy)).device("nic0")

    def map(self, *pages: int) -> None:
        for page in pages:
            self.now_ns += 100_000
            made = self.space.map(page * PAGE, PAGE, None, 0, True, True, self.now_ns)
            self.ledger.mapped(self.now_ns, made)

    def unmap(self, *pages: int, size: int = PAGE) -> None:
        for page in pages:
            self.now_ns += 100_000
            self.ledger.unmap_requested(self.now_ns, page * PAGE, size)
            gone = self.space.unmap(page * PAGE, size, self.now_ns)
            self.ledger.unmapped(self.now_ns, gone)

    @property
    def most(self) -> int:
        return self.ledger.flushes.most


def test_longest_row_counts_not_the_last() -> None:
    host = Host()
    host.map(*range(20))
    host.unmap(*range(7))
    host.map(30)
    host.unmap(*range(7, 10))
    assert host.most == 7


def test_map_in_between_ends_a_row() -> None:
    host = Host()
    host.map(*range(8))
    for page in range(8):
        host.unmap(page)
        host.map(page + 100)
    assert host.most == 1


def test_pause_ends_a_row() -> None:
    host = Host()
    host.map(*range(8))
    host.unmap(0, 1, 2)
    host.now_ns += GAP_NS
    host.unmap(3, 4)
    assert host.most == 3


def test_sweep_and_lost_client_are_no_row() -> None:
    host = Host()
    host.map(*range(8))
    host.unmap(0, size=4 * PAGE)
    host.ledger.closed(host.now_ns)
    assert host.most == 0


def test_strict_guest_leaves_nothing_stale_however_it_unmaps() -> None:
    host = Host(lazy=False)
    host.map(*range(8))
    host.unmap(*range(8))
    assert host.most == 0


def test_restart_forgets_the_rows_before() -> None:
    host = Host()
    host.map(*range(8))
    host.unmap(*range(5))
    host.ledger.flushes.restart()
    assert host.most == 0
    host.unmap(5, 6)
    assert host.most == 2
