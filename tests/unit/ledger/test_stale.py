# SPDX-License-Identifier: MIT
"""The guest's word for an unmap is paired with the mapping it was about, and with no later one."""

import pytest

from emulator.ledger import stale
from tests.unit.ledger.support import PAGE

SLACK_NS = 200_000


@pytest.fixture
def traced(ledger, host):
    """A device whose guest is traced; its clock may be off by SLACK_NS."""
    host.ledger.clock_error(SLACK_NS)
    host.ledger.trace_begins(0)
    return host


def clean_turns(host, turns, pages=64):
    """Strict, sound: each page is unmapped, told to be, and mapped anew 100 us later."""
    for page in range(pages):
        host.map((1 + page) * PAGE)
    for turn in range(turns):
        now = 1_000_000 * (1 + turn)
        iova = (1 + turn % pages) * PAGE
        host.unmap(iova, now=now)
        host.map(iova, now=now + 100_000)
        yield now, iova


def test_unmaps_of_a_long_trace_are_taken_for_later_mappings(traced, monkeypatch):
    monkeypatch.setattr(stale, "RECENT_MAX", 120)
    untold = []
    for now, iova in clean_turns(traced, 1000):
        untold.append((now, iova))
        if len(untold) == 50:  # the guest is some events behind
            for at, page in untold:
                traced.ledger.guest_unmapped(at, page, PAGE)
            untold.clear()
    windows = traced.ledger.stale.windows
    assert (windows.count, windows.unmatched, windows.prompt) == (0, 0, 1000)
    assert traced.ledger.stale.open_since == {}
    assert traced.ledger.state.trace_lost == 0


def test_unmaps_that_the_guest_never_tells_are_kept_for_ever_or_forgotten_in_silence(
    traced, monkeypatch
):
    monkeypatch.setattr(stale, "RECENT_MAX", 120)
    (*_, (now, iova)) = clean_turns(traced, 121)
    traced.ledger.guest_unmapped(now, iova, PAGE)
    assert traced.ledger.state.trace_lost == 121
    traced.ledger.guest_unmapped(now, iova, PAGE)
    assert traced.ledger.state.trace_lost == 121


def test_second_page_of_a_mapping_that_is_gone_is_taken_for_the_next_mapping(traced):
    traced.map(PAGE, size=2 * PAGE)
    traced.unmap(PAGE, size=2 * PAGE, now=1_000_000)
    traced.map(PAGE, size=2 * PAGE, now=1_100_000)
    traced.ledger.guest_unmapped(1_020_000, PAGE, 2 * PAGE)
    traced.unmap(PAGE, size=2 * PAGE, now=50_000_000)
    traced.ledger.guest_unmapped(50_000_000, PAGE, 2 * PAGE)
    windows = traced.ledger.stale.windows
    assert (windows.count, windows.unmatched, windows.prompt) == (0, 0, 2)


def test_mapping_of_several_pages_that_outlives_its_unmap_is_counted_once_a_page(traced):
    traced.map(PAGE, size=4 * PAGE)
    traced.ledger.guest_unmapped(1_000_000, PAGE, 4 * PAGE)
    traced.unmap(PAGE, size=4 * PAGE, now=11_000_000)
    windows = traced.ledger.stale.windows
    assert (windows.count, windows.longest_ns, windows.unmatched) == (1, 10_000_000, 0)


def test_pages_mapped_one_by_one_and_given_up_together_are_counted_as_one(traced):
    for page in range(1, 5):
        traced.map(page * PAGE)
    traced.ledger.guest_unmapped(1_000_000, PAGE, 4 * PAGE)
    for page in range(1, 5):
        traced.unmap(page * PAGE, now=11_000_000)
    assert traced.ledger.stale.windows.count == 4
