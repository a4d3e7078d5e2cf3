# SPDX-License-Identifier: MIT
"""The ledger in columns against a plain one of dicts, event by event; and each rule on its own."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.ledger.columns import book as b
from emulator.ledger.columns import judge

FRAMES, IOVAS, DEVICES = 4, 4, 2
PAGE = 4096
OFFSETS = (0, 2048, 3072)
"""Of buffers in a frame; the last ends in the next frame."""
LENGTH = 2048
HOME, POSTED, HELD = "home", "posted", "held"


class PlainLedger:
    """What the columns should know, kept as one would write it down by hand."""

    def __init__(self, everything, shared):
        self.everything, self.shared = everything, shared
        self.ours = dict.fromkeys(range(FRAMES), False)
        self.maps = {}  # (device, IOVA page) -> frame
        self.stale = {}  # (device, IOVA page) -> since when
        self.lent = defaultdict(lambda: HOME)  # where a buffer begins -> who has it
        self.held = Counter()  # frame -> bytes
        self.posted = Counter()  # frame -> buffers
        self.posted_bytes = 0
        self.broken = Counter()
        self.exposed = Counter()
        self.windows = []
        self.now = 0.0

    def pass_time(self, now):
        """Integrates what is exposed, frame by frame."""
        passed, self.now = now - self.now, now
        for frame in range(FRAMES):
            if frame not in self.maps.values():
                continue
            if not self.ours[frame]:
                self.exposed["free"] += PAGE * passed
            else:
                self.exposed["held"] += self.held[frame] * passed
        if self.everything:
            self.exposed["all"] += (FRAMES * PAGE - self.posted_bytes) * passed

    def allocated(self, frame):
        self.ours[frame] = True

    def freed(self, frame):
        self.ours[frame] = False
        self.broken["O-3"] += self.posted[frame] > 0

    def mapped(self, device, iova, frame):
        for each in range(DEVICES) if self.shared else [device]:
            self.maps[each, iova] = frame

    def given_up(self, device, iova):
        if (device, iova) not in self.maps or (device, iova) in self.stale:
            self.broken["O-7"] += 1
            return
        self.broken["O-3"] += self.posted[self.maps[device, iova]] > 0
        self.stale[device, iova] = self.now

    def ended(self, iova):
        since = [self.stale.pop((d, iova)) for d in range(DEVICES) if (d, iova) in self.stale]
        if since:
            self.windows.append(self.now - max(since))
        for device in range(DEVICES):
            self.maps.pop((device, iova), None)

    def frames_of(self, mem):
        return sorted({mem // PAGE, (mem + LENGTH - 1) // PAGE})

    def post(self, mem):
        self.broken["O-5"] += self.lent[mem] != HOME
        self.lent[mem] = POSTED
        self.posted.update(self.frames_of(mem))
        self.posted_bytes += LENGTH

    def unpost(self, mem):
        self.lent[mem] = HOME
        self.posted.subtract(self.frames_of(mem))
        self.posted_bytes -= LENGTH

    def receive(self, mem):
        self.lent[mem] = HELD
        self.held[mem // PAGE] += LENGTH

    def give_back(self, mem):
        self.lent[mem] = HOME
        self.held[mem // PAGE] -= LENGTH

    def written(self, device, mem, iova):
        if self.everything:
            return
        for byte in {0, LENGTH - 1}:
            page, frame = (iova + byte) // PAGE, (mem + byte) // PAGE
            if byte and page == iova // PAGE:
                continue
            if self.maps.get((device, page)) == frame:
                self.broken["O-1"] += (device, page) in self.stale
            elif self.maps.get((1 - device, page)) == frame:
                self.broken["O-2"] += 1
            else:
                self.broken["O-1"] += 1

    def closed(self):
        lost = len({iova for _, iova in self.maps}) - len({iova for _, iova in self.stale})
        self.broken["O-7"] += lost > 0


class Both:
    """The same events for the columns and for the plain ledger."""

    def __init__(self, everything=False, shared=False):
        self.plain = PlainLedger(everything, shared)
        self.book = b.make_book(FRAMES, IOVAS + 1, DEVICES, everything, shared)
        self.now = 0.0

    def wait(self, ns):
        self.now += ns
        self.plain.pass_time(self.now)

    def allocated(self, frame):
        judge.allocated(self.book, self.now, frame, 1)
        self.plain.allocated(frame)

    def freed(self, frame):
        judge.freed(self.book, self.now, frame, 1)
        self.plain.freed(frame)

    def mapped(self, device, iova, frame):
        if any((each, iova) in self.plain.maps for each in range(DEVICES)):
            return  # no IOMMU gives an address that is in use
        judge.mapped(self.book, self.now, device, iova, frame)
        self.plain.mapped(device, iova, frame)

    def given_up(self, device, iova):
        if self.plain.shared and any((each, iova) in self.plain.stale for each in range(DEVICES)):
            return  # one owner of a shared domain unmaps
        judge.given_up(self.book, self.now, device, iova)
        self.plain.given_up(device, iova)

    def ended(self, iova):
        judge.ended(self.book, self.now, iova)
        self.plain.ended(iova)

    def post(self, device, mem, iova):
        arrays = np.array([mem]), np.array([iova])
        judge.posted(self.book, self.now, device, 1, *arrays, LENGTH)
        self.plain.post(mem)

    def unpost(self, mem):
        if self.plain.lent[mem] == POSTED:
            judge.settle_everything(self.book, self.now)
            judge.unposted(self.book, mem, LENGTH)
            self.plain.unpost(mem)

    def receive(self, mem):
        if self.plain.lent[mem] == HOME:
            judge.received(self.book, self.now, 1, np.array([mem]), LENGTH)
            self.plain.receive(mem)

    def give_back(self, mem):
        if self.plain.lent[mem] == HELD:
            judge.given_back(self.book, self.now, 1, np.array([mem]), LENGTH)
            self.plain.give_back(mem)

    def written(self, device, mem, iova):
        judge.written(self.book, self.now, device, mem, iova, LENGTH)
        self.plain.written(device, mem, iova)

    def closed(self):
        judge.closed(self.book, self.now, 0)
        self.plain.closed()

    @property
    def broken(self):
        return {f"O-{rule}": int(n) for rule, n in enumerate(self.book.broken) if n}

    def agree(self):
        f, n = self.book.f, self.book.n
        assert self.broken == {rule: n for rule, n in self.plain.broken.items() if n}
        exposed = [f[b.FREED], f[b.READ], f[b.EVERYTHING]]
        assert exposed == [self.plain.exposed[kind] for kind in ("free", "held", "all")]
        assert n[b.LIVE_NOW] == len({iova for _, iova in self.plain.maps})
        assert n[b.STALE_NOW] == len({iova for _, iova in self.plain.stale})
        assert (n[b.WINDOWS], f[b.STALE_NS]) == (len(self.plain.windows), sum(self.plain.windows))
        assert f[b.LONGEST_NS] == max(self.plain.windows, default=0)
        assert self.book.windows.sum() == len(self.plain.windows)


frames = st.integers(0, FRAMES - 2)
devices = st.integers(0, DEVICES - 1)
iovas = st.integers(0, IOVAS - 1)
places = st.builds(lambda frame, offset: frame * PAGE + offset, frames, st.sampled_from(OFFSETS))
addresses = st.builds(lambda page, offset: page * PAGE + offset, iovas, st.sampled_from(OFFSETS))
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 1000).map(float)),
        st.tuples(st.sampled_from(["allocated", "freed"]), frames),
        st.tuples(st.just("mapped"), devices, iovas, frames),
        st.tuples(st.just("given_up"), devices, iovas),
        st.tuples(st.just("ended"), iovas),
        st.tuples(st.sampled_from(["unpost", "receive", "give_back"]), places),
        st.tuples(st.sampled_from(["post", "written"]), devices, places, addresses),
    ),
    min_size=10,
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.booleans(), st.booleans())
def test_columns_that_judge_or_integrate_otherwise_than_a_plain_ledger(events, everything, shared):
    both = Both(everything, shared)
    for name, *arguments in events:
        getattr(both, name)(*arguments)
    both.closed()
    both.agree()


def legal(both, frame=0, iova=0, device=0):
    """One buffer's whole life under a strict IOMMU: nothing to blame in it."""
    mem, address = frame * PAGE, iova * PAGE
    both.allocated(frame)
    both.mapped(device, iova, frame)
    both.post(device, mem, address)
    both.wait(10.0)
    both.written(device, mem, address)
    both.unpost(mem)
    both.receive(mem)
    both.wait(5.0)
    both.give_back(mem)
    both.given_up(device, iova)
    both.ended(iova)
    both.freed(frame)
    both.wait(100.0)


LIVES = st.lists(
    st.tuples(frames, iovas, devices, st.booleans(), st.integers(1, 50).map(float)), max_size=12
)


@settings(max_examples=50, deadline=None)
@given(LIVES)
def test_legal_life_that_any_rule_blames(lives):
    both = Both()
    for frame, iova, device, late, ns in lives:
        legal(both, frame, iova, device)
        if late:  # a lazy IOMMU: exposure, and no violation
            both.allocated(frame)
            both.mapped(device, iova, frame)
            both.given_up(device, iova)
            both.freed(frame)
            both.wait(ns)
            both.ended(iova)
    both.closed()
    assert both.broken == {}
    assert both.book.f[b.READ] == 5.0 * LENGTH * len(lives)
    assert both.book.f[b.FREED] == PAGE * sum(ns for *_, late, ns in lives if late)
    both.agree()


def begun(both, device=0):
    both.allocated(0)
    both.mapped(device, 0, 0)
    both.post(device, 0, 0)
    both.wait(1.0)


def end(both):
    both.unpost(0)
    both.given_up(0, 0)
    both.ended(0)
    both.freed(0)


def write_after_unmap(both):
    begun(both)
    end(both)
    both.written(0, 0, 0)


def write_to_what_lies_elsewhere(both):
    begun(both)
    both.written(0, PAGE, 0)
    end(both)


def write_while_stale(both):
    begun(both)
    both.unpost(0)
    both.given_up(0, 0)
    both.written(0, 0, 0)
    both.ended(0)


def write_by_another_device(both):
    begun(both)
    both.written(1, 0, 0)
    end(both)


def unmap_while_posted(both):
    begun(both)
    both.given_up(0, 0)
    both.unpost(0)
    both.ended(0)


def free_while_posted(both):
    begun(both)
    both.freed(0)
    both.unpost(0)
    both.given_up(0, 0)
    both.ended(0)


def post_twice(both):
    begun(both)
    both.post(0, 0, 0)
    both.unpost(0)
    both.unpost(0)
    both.book.frame[0, b.POSTED] = both.plain.posted[0] = 0
    both.given_up(0, 0)
    both.ended(0)


def post_while_held(both):
    begun(both)
    both.unpost(0)
    both.receive(0)
    both.post(0, 0, 0)
    both.unpost(0)
    both.given_up(0, 0)
    both.ended(0)


def leave_a_mapping(both):
    begun(both)
    both.unpost(0)


def unmap_twice(both):
    begun(both)
    both.unpost(0)
    both.given_up(0, 0)
    both.given_up(0, 0)
    both.ended(0)


def unmap_nothing(both):
    both.given_up(0, 2)


@pytest.mark.parametrize(
    ("defect", "rule"),
    [
        (write_after_unmap, "O-1"),
        (write_to_what_lies_elsewhere, "O-1"),
        (write_while_stale, "O-1"),
        (write_by_another_device, "O-2"),
        (unmap_while_posted, "O-3"),
        (free_while_posted, "O-3"),
        (post_twice, "O-5"),
        (post_while_held, "O-5"),
        (leave_a_mapping, "O-7"),
        (unmap_twice, "O-7"),
        (unmap_nothing, "O-7"),
    ],
)
def test_defect_that_its_rule_overlooks_or_another_claims(defect, rule):
    both = Both()
    legal(both, 1, 1, 1)
    defect(both)
    both.closed()
    assert both.broken == {rule: 1}
    first = both.book.first[int(rule[2:])]
    assert first[b.WHEN] >= 115.0  # not in the legal life before it
    both.agree()


def test_shared_domain_in_which_the_write_of_another_device_is_refused():
    both = Both(shared=True)
    begun(both)
    assert judge.probed(both.book, both.now, 1, 0, 0, 0)
    assert both.broken == {"O-2": 1}
    apart = Both()
    begun(apart)
    assert not judge.probed(apart.book, apart.now, 1, 0, 0, 0)
    assert apart.broken == {}


def test_event_told_late_that_takes_exposure_back():
    """CPUs are played one after the other: a frame's time may come from before its last event."""
    both = Both()
    both.allocated(0)
    both.mapped(0, 0, 0)
    judge.freed(both.book, 100.0, 0, 1)
    judge.allocated(both.book, 60.0, 0, 1)
    assert both.book.f[b.FREED] == 0
    judge.freed(both.book, 200.0, 0, 1)
    b.settle(both.book, 0, 250.0)
    assert both.book.f[b.FREED] == 50 * PAGE
