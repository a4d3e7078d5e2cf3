# SPDX-License-Identifier: MIT
"""The guest's trace joined with the device's view: which rule hears what, at which time."""

import pytest

from emulator.ledger import Ledger, Policy
from emulator.ledger.clock import ClockError
from emulator.ledger.join import GuestView, Traced, TraceEvent
from tests.unit.ledger.support import PAGE, Host, said, spoken

AHEAD = 5_000_000_000
"""The host's clock minus the guest's."""


class Pair:
    """A guest that traces, and the device that sees its maps; times are the host's, in us."""

    def __init__(self, policy=None):
        self.ledger = Ledger(lambda: 0, policy or Policy())
        self.host = Host(self.ledger)
        self.view = GuestView(self.host.ledger)
        self.view.begin(0)
        self.events = []

    def trace(self, us, kind, *place):
        self.events.append(TraceEvent(us * 1000 - AHEAD, kind, *place))

    def map(self, us, page, size=3712, phys=None):
        phys = page * PAGE if phys is None else phys
        self.trace(us - 10, Traced.TABLE, page * PAGE, PAGE)
        self.host.map(page * PAGE, phys, now=us * 1000)
        self.trace(us + 10, Traced.MAPPED, page * PAGE + 64, size, phys + 64)

    def unmap(self, us, page, gone_us, size=3712):
        self.trace(us, Traced.UNMAPPED, page * PAGE + 64, size)
        self.host.unmap(page * PAGE, now=gone_us * 1000)

    def join(self, lost=0):
        return self.view.join(self.host.memory, self.events, lost)


def test_maps_and_unmaps_of_a_strict_guest_are_paired_and_silent():
    pair = Pair()
    for turn in range(20):
        pair.map(1000 + turn * 100, 4)
        pair.unmap(1060 + turn * 100, 4, 1050 + turn * 100)
    joined = pair.join()
    windows = pair.host.ledger.stale.windows
    assert (joined.clock.samples, joined.unmatched, joined.events) == (20, 0, 60)
    assert (windows.prompt, windows.count, windows.unmatched) == (20, 0, 0)
    assert joined.clock.error_ns < 12_000 and spoken(pair.ledger) == {}


def test_window_of_a_strict_guest_beyond_the_clocks_error_is_reported_as_o10():
    pair = Pair()
    for turn in range(20):
        pair.map(1000 + turn * 100, 4)
        pair.unmap(1060 + turn * 100, 4, 1050 + turn * 100)
    pair.map(5000, 6)
    pair.unmap(5100, 6, 5160)
    pair.join()
    assert spoken(pair.ledger) == {"O-10": 1} and "clocks agree within" in said(pair.ledger)
    assert abs(pair.ledger.log.kept[0].time_ns - 5_160_000) < 1000


def test_windows_of_a_lazy_guest_run_from_its_own_unmaps():
    pair = Pair(Policy(lazy=True))
    for page in range(1, 9):
        pair.map(1000 + page * 100, page)
    for page in range(1, 9):
        pair.unmap(3000 + page, page, 5000)
    pair.join()
    windows = pair.host.ledger.stale.windows
    assert windows.count == 8 and 1_950_000 < windows.longest_ns < 2_050_000


def test_head_is_judged_by_what_was_mapped_when_it_was_built():
    pair = Pair()
    pair.map(1000, 4, phys=40 * PAGE)
    pair.trace(1500, Traced.HEAD, 40 * PAGE)
    pair.unmap(2010, 4, 2000)
    pair.trace(2500, Traced.HEAD, 40 * PAGE)
    pair.join()
    assert spoken(pair.ledger) == {"O-16": 1} and ledger_page(pair) == 40 * PAGE


def ledger_page(pair):
    return pair.ledger.log.kept[0].page


def test_pages_of_pools_are_counted_against_the_mappings_by_o8():
    pair = Pair()
    pair.host.start(1)
    for page in (4, 5, 6):
        pair.map(1000 + page * 100, page)
        pair.trace(1050 + page * 100, Traced.HOLD, page)
    pair.join()
    assert spoken(pair.ledger) == {}
    pair.trace(2000, Traced.RELEASE, 4)
    pair.host.ledger.trace_begins(0)
    pair.join()
    assert spoken(pair.ledger) == {"O-8": 1} and "freed mapped" in said(pair.ledger)


def test_page_of_another_devices_pool_or_of_an_older_pool_is_counted_by_o8():
    pair = Pair()
    pair.host.start(1)
    pair.trace(900, Traced.RELEASE, 77)  # a socket had it from before the trace
    pair.trace(950, Traced.HOLD, 99)  # the other device mapped it
    for page in (4, 5):
        pair.map(1000 + page * 100, page)
        pair.trace(1050 + page * 100, Traced.HOLD, page)
    pair.unmap(2000, 5, 2000)
    pair.trace(2010, Traced.RELEASE, 5)
    pair.trace(2020, Traced.HOLD, 5)  # and this one is the other device's now
    pair.join()
    assert spoken(pair.ledger) == {}
    assert "O-8" not in pair.host.ledger.not_judged()


def test_pools_that_were_filled_before_the_trace_are_not_counted():
    pair = Pair()
    pair.host.start(1)
    pair.map(1000, 4)
    pair.host.ledger.note(0, 1)
    pair.join()
    pair.view.begin(1_500_000)
    pair.events = []
    pair.trace(2000, Traced.RELEASE, 4)
    pair.trace(2001, Traced.HOLD, 4)
    pair.join()
    assert "O-8" in pair.host.ledger.not_judged()


def test_lost_events_silence_o9_and_o8():
    pair = Pair()
    pair.map(1000, 4)
    pair.trace(1050, Traced.HOLD, 9)
    pair.trace(1060, Traced.MAPPED, 9 * PAGE, 64)
    joined = pair.join(lost=3)
    assert (joined.unmatched, joined.lost, spoken(pair.ledger)) == (1, 3, {})
    assert "lost 3 events" in str(pair.host.ledger.not_judged()["O-9"])


def test_trace_without_a_map_in_common_is_refused():
    pair = Pair()
    pair.trace(1000, Traced.MAPPED, PAGE, 64)
    with pytest.raises(ClockError):
        pair.join()


def test_head_in_a_page_that_was_mapped_again_before_its_first_unmap_is_reported_as_o16():
    pair = Pair()
    pair.map(1000, 4, phys=40 * PAGE)
    pair.trace(1500, Traced.HEAD, 40 * PAGE)
    pair.map(2000, 5, phys=40 * PAGE)
    pair.unmap(3010, 4, 3000)
    pair.unmap(4010, 5, 4000)
    pair.join()
    assert spoken(pair.ledger) == {"O-16": 1} and pair.ledger.log.kept[0].iova == 4 * PAGE
