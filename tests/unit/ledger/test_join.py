# SPDX-License-Identifier: MIT
"""The guest's trace joined with the device's view: which rule hears what, at which time."""

import pytest

from emulator.ledger import Ledger, Policy
from emulator.ledger.clock import ClockError
from emulator.ledger.guest_clock import KEPT_MAPS, KEPT_TICKS, Tick
from emulator.ledger.held import KEPT, RingHistory
from emulator.ledger.join import GuestView
from emulator.ledger.traced import Traced, TraceEvent
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

    def batch(self, lost=0, tick=None):
        """What was traced so far is told."""
        self.view.take(self.events, lost)
        self.view.ticked(self.host.memory, tick)
        self.view.tell()
        self.events = []

    def join(self, lost=0):
        self.batch(lost)
        return self.view.settle()


def test_maps_and_unmaps_of_a_strict_guest_are_paired_and_silent():
    pair = Pair()
    for turn in range(20):
        pair.map(1000 + turn * 100, 4)
        pair.unmap(1060 + turn * 100, 4, 1050 + turn * 100)
    joined = pair.join()
    windows = pair.host.ledger.stale.windows
    assert (joined.samples, joined.unmatched, joined.events) == (20, 0, 60)
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
    pair.join()
    assert spoken(pair.ledger) == {"O-8": 1} and "freed mapped" in said(pair.ledger)


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


def test_lost_events_silence_the_rules_that_need_all_of_them():
    pair = Pair()
    pair.map(1000, 4)
    pair.batch()
    pair.trace(1050, Traced.HOLD, 9)
    pair.trace(1060, Traced.MAPPED, 9 * PAGE, 64)
    joined = pair.join(lost=3)
    assert (joined.unmatched, joined.lost, spoken(pair.ledger)) == (0, 3, {})
    judged = pair.host.ledger.not_judged()
    assert all("lost 3 events" in str(judged[rule]) for rule in ("O-8", "O-9", "O-10", "O-16"))
    pair.view.begin(2_000_000)
    pair.map(3000, 5)
    pair.join()
    assert "lost 3 events" in str(pair.host.ledger.not_judged()["O-9"])  # it stays said


def test_unmap_whose_pair_was_lost_accuses_nobody():
    pair = Pair()
    for turn in range(20):
        pair.map(1000 + turn * 100, 4)
        pair.unmap(1060 + turn * 100, 4, 1050 + turn * 100)
    pair.batch()
    pair.map(5000, 4)
    pair.unmap(5060, 4, 5050)
    pair.map(5100, 4)
    pair.unmap(9000, 4, 8990)
    del pair.events[3:]  # of the second map and unmap; the device saw all four
    pair.batch(lost=3, tick=Tick(9_000_000, 9_001_000 - AHEAD, 9_002_000))
    pair.map(10000, 4)
    pair.trace(10100, Traced.UNMAPPED, 4 * PAGE, 64)  # of a map whose other half was lost
    pair.batch()
    pair.unmap(90010, 4, 90000)
    joined = pair.join()
    assert spoken(pair.ledger) == {} and joined.lost == 3
    assert pair.host.ledger.stale.windows.count == 0


def test_halves_of_a_map_that_come_in_different_batches_are_paired():
    pair = Pair()
    for turn in range(20):
        pair.map(1000 + turn * 100, 4)
        last = pair.events.pop()
        pair.batch(tick=Tick(1_000_000, 1_000_500 - AHEAD, 1_001_000))
        pair.events.append(last)
        pair.unmap(1060 + turn * 100, 4, 1050 + turn * 100)
    joined = pair.join()
    assert (joined.samples, joined.unmatched) == (21, 0)


def test_batches_of_a_long_trace_hold_ever_more():
    pair = Pair()
    for turn in range(300):
        for page in range(20):
            pair.map(1000 + turn * 3000 + page * 100, page)
            pair.unmap(1060 + turn * 3000 + page * 100, page, 1050 + turn * 3000 + page * 100)
        at = 1000 + turn * 3000 + 2500
        pair.batch(tick=Tick(at * 1000 - 900, at * 1000 - AHEAD, at * 1000 + 900))
    joined = pair.join()
    assert joined.samples == 300 * 21 and joined.error_ns < 12_000
    assert joined.clock.samples <= KEPT_TICKS * (KEPT_MAPS + 1)


def test_devices_halves_without_the_guests_are_held_without_end(monkeypatch):
    monkeypatch.setattr("emulator.ledger.map_pairs.PENDING_MAX", 8)
    pair = Pair()
    for page in range(9):
        pair.host.map(page * PAGE, now=page)
    pair.map(1000, 20)
    pair.batch(tick=Tick(1_100_000, 1_100_000 - AHEAD, 1_100_400))
    assert pair.join().samples == 1  # the tick: no map is paired any more


def test_ticks_alone_tie_the_clocks_where_no_map_is_seen():
    pair = Pair()
    pair.trace(1000, Traced.MAPPED, PAGE, 64)
    pair.batch(tick=Tick(1_000_000, 1_001_000 - AHEAD, 1_003_000))
    joined = pair.join()
    assert 1_500 <= joined.error_ns <= 3_000
    assert abs(joined.clock.to_host(1_001_000 - AHEAD) - 1_001_500) <= joined.error_ns


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


class Stack(Pair):
    """A pair whose guest's sink traces what it keeps; the clocks agree within some 12 us."""

    def __init__(self):
        super().__init__()
        self.view.begin(0, stack=True)
        self.host.start(200)

    def receive(self, us, page):
        """The buffer of ``page`` is posted, filled and returned."""
        self.post(us, page)
        self.give_back(us + 20, page)

    def post(self, us, page):
        self.host.post(page * PAGE + 64, now=us * 1000)

    def give_back(self, us, page):
        self.host.give_back(page * PAGE + 64, now=us * 1000)

    def keep(self, us, page):
        self.trace(us, Traced.KEPT, page * PAGE + 64, 1514)

    def let_go(self, us, page):
        self.trace(us, Traced.LET_GO, page * PAGE + 64, 1514)

    def tied(self):
        """Maps page 4, as often as it takes to know the clocks."""
        for turn in range(20):
            self.map(100 + turn * 30, 4)
            self.unmap(125 + turn * 30, 4, 120 + turn * 30)
        self.map(800, 4)
        return self


def test_page_posted_while_the_guests_sink_keeps_it_is_reported_as_o5():
    pair = Stack().tied()
    pair.receive(1000, 4)
    pair.keep(1100, 4)
    pair.post(1500, 4)
    pair.give_back(1600, 4)
    pair.batch()
    assert spoken(pair.ledger) == {}  # who knows when the stack will have let it go
    pair.let_go(2000, 4)
    pair.join()
    assert spoken(pair.ledger) == {"O-5": 1} and "clocks agree within" in said(pair.ledger)
    found = pair.ledger.log.kept[0]
    assert (found.time_ns, found.iova) == (1_500_000, 4 * PAGE + 64)


def test_page_posted_before_the_sink_said_that_it_keeps_it_but_after_its_return_is_reported():
    pair = Stack().tied()
    pair.receive(1000, 4)
    pair.post(1025, 4)
    pair.keep(1030, 4)
    pair.let_go(1100, 4)
    pair.join()
    assert spoken(pair.ledger) == {"O-5": 1}


def test_page_that_the_stack_never_lets_go_is_judged_at_the_end_of_the_trace():
    pair = Stack().tied()
    pair.receive(1000, 4)
    pair.keep(1100, 4)
    pair.post(1500, 4)
    pair.trace(1900, Traced.HOLD, 77)
    pair.join()
    assert spoken(pair.ledger)["O-5"] == 1


def test_posts_that_the_clocks_cannot_tell_from_later_ones_accuse_nobody():
    pair = Stack().tied()
    pair.receive(1000, 4)
    pair.keep(1100, 4)
    pair.let_go(1500, 4)
    pair.post(1495, 4)  # 5 us before
    pair.join()
    assert spoken(pair.ledger) == {}


def test_page_that_went_round_once_more_before_it_was_kept_accuses_nobody():
    pair = Stack().tied()
    for us in (1000, 1100, 1200):
        pair.receive(us, 4)
    pair.keep(1225, 4)  # of the third; that the second had come back by then no clock can tell
    pair.let_go(1300, 4)
    pair.receive(1400, 4)
    pair.join()
    assert spoken(pair.ledger) == {}


def test_frame_kept_since_before_anything_was_known_of_its_page_is_judged_from_then_on():
    pair = Stack().tied()
    pair.keep(1100, 4)
    pair.post(1105, 4)
    pair.post(1500, 4)
    pair.let_go(2000, 4)
    pair.join()
    assert [v.time_ns for v in pair.ledger.log.kept if "stack" in v.cause] == [1_500_000]


def test_release_that_the_tracer_lost_accuses_nobody_and_is_said():
    pair = Stack().tied()
    pair.receive(1000, 4)
    pair.keep(1100, 4)
    pair.batch()
    assert "O-5" not in pair.host.ledger.not_judged()
    pair.post(1500, 4)
    pair.batch(lost=1)
    pair.give_back(1600, 4)
    pair.keep(1700, 4)
    pair.let_go(1800, 4)
    pair.join()
    assert spoken(pair.ledger) == {}
    assert "lost 1 events" in str(pair.host.ledger.not_judged()["O-5"])


def test_trace_without_the_sinks_events_leaves_o5_without_its_signal():
    pair = Pair()
    pair.host.start(200)
    pair.map(1000, 4)
    pair.join()
    assert "while the stack reads" in str(pair.host.ledger.not_judged()["O-5"])


def test_history_of_places_grows_without_end(monkeypatch):
    monkeypatch.setattr("emulator.ledger.held.PLACES_MAX", 4)
    history = RingHistory()
    for round_ in range(KEPT + 3):
        for place in range(6):
            history.add(10 * round_ + place, 0, [(place * PAGE, 0)])
    last = 10 * (KEPT + 2)
    assert history.posted_within(PAGE, 0, last * 2) == []  # the oldest places went
    found = history.posted_within(5 * PAGE, 0, last * 2)
    assert 0 < len(found) <= KEPT and found[-1].time_ns == last + 5
