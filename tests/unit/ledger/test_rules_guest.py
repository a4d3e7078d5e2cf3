# SPDX-License-Identifier: MIT
"""Rules that judge by what the guest tells: O-6, 8, 9, 10, 16, 17, 20, and its own times."""

import pytest

from emulator.iommu.mapping import PAGE_SHIFT, target_of
from emulator.ledger import Ledger, Mark, Policy
from emulator.ledger.facts import (
    Checked,
    GuestMapped,
    GuestSettled,
    HeadBuilt,
    PayloadChecked,
    PoolCounted,
    Took,
)
from tests.unit.ledger.support import PAGE, TX, Host, said, spoken


def judged(policy):
    ledger = Ledger(lambda: 0, policy)
    return ledger, Host(ledger)


def test_payload_that_changed_late_is_reported_as_o6(ledger, host):
    host.tell(PayloadChecked(100, 0), now=1)
    assert spoken(ledger) == {}
    host.tell(PayloadChecked(100, 3, "byte 14 of frame 7", PAGE), now=2)
    assert spoken(ledger) == {"O-6": 1}
    line = said(ledger)
    assert "3 of 100" in line and "byte 14 of frame 7" in line and "0x1000" in line


def receiving(host, pages=6):
    """A ring page, and ``pages`` receive pages of which two are posted."""
    host.map(0)
    host.ledger.note(0, 1)
    host.map(PAGE, PAGE)
    host.start(1)
    for page in range(2, 2 + pages):
        host.map(page * PAGE, page * PAGE, readable=False)
    host.map(64 * PAGE, 64 * PAGE, writable=False)
    host.post(2 * PAGE, 3 * PAGE)
    host.post(64 * PAGE, kind=TX)


def test_pool_whose_pages_are_all_accounted_for_is_no_o8(ledger, host):
    receiving(host)
    host.tell(PoolCounted(6))
    host.tell(PoolCounted(6, cached=1, held=3))
    host.tell(PoolCounted(6, cached=0, held=0, slots=8))  # four that the device has not fetched yet
    assert spoken(ledger) == {}


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (PoolCounted(5), "a page was freed mapped"),
        (PoolCounted(7), "one was unmapped"),
        (PoolCounted(6, cached=1, held=2), "1 pages of the pools are nobody's"),
        (PoolCounted(6, cached=0, held=1, slots=4), "1 pages of the pools are nobody's"),
        (PoolCounted(6, cached=2, held=3, slots=8), "1 posted pages of the pools are somebody"),
    ],
)
def test_page_that_is_nobodys_is_reported_as_o8(ledger, host, count, words):
    receiving(host)
    host.tell(count, now=50)
    assert spoken(ledger) == {"O-8": 1}
    assert words in said(ledger) and ledger.log.kept[0].time_ns == 50


def test_lazy_unmaps_are_no_o8_but_pool_pages_without_mapping_are():
    ledger, host = judged(Policy(lazy=True))
    receiving(host)
    host.tell(PoolCounted(4))
    assert spoken(ledger) == {}
    host.tell(PoolCounted(8))
    assert spoken(ledger) == {"O-8": 1}


def test_mapping_that_outlived_the_guests_page_table_is_reported_as_o9(ledger, host):
    host.map(PAGE)
    host.ledger.trace_begins(0)
    host.map(2 * PAGE, PAGE)
    host.tell(GuestMapped(2 * PAGE + 64, 3712))
    host.map(3 * PAGE, 2 * PAGE, size=2 * PAGE)
    host.tell(GuestMapped(3 * PAGE, 2 * PAGE))
    host.tell(GuestSettled(), now=4)
    assert spoken(ledger) == {}
    host.ledger.guest_unmapped(5, 2 * PAGE + 64, 3712)
    host.tell(GuestSettled(), now=6)
    assert spoken(ledger) == {"O-9": 1}
    assert "not invalidated" in said(ledger) and ledger.log.kept[0].iova == 2 * PAGE


def test_page_that_never_reached_the_device_is_reported_as_o9():
    for policy in (Policy(), Policy(lazy=True)):
        ledger, host = judged(policy)
        host.tell(GuestMapped(2 * PAGE, PAGE))
        host.tell(GuestSettled())
        assert spoken(ledger) == {"O-9": 1} and "the device does not" in said(ledger)


def test_page_not_yet_invalidated_is_no_o9_where_invalidation_is_lazy():
    ledger, host = judged(Policy(lazy=True))
    host.ledger.trace_begins(0)
    host.map(2 * PAGE)
    host.tell(GuestMapped(2 * PAGE, PAGE))
    host.ledger.guest_unmapped(1, 2 * PAGE, PAGE)
    host.tell(GuestSettled())
    assert spoken(ledger) == {}


def test_trace_with_holes_is_no_ground_for_o9_and_the_verdict_says_so(ledger, host):
    host.tell(GuestMapped(2 * PAGE, PAGE))
    host.ledger.trace_lost(12)
    assert spoken(ledger) == {}
    assert "lost 12 events" in str(host.ledger.not_judged()["O-9"])


@pytest.mark.parametrize("late", [False, True])
def test_window_under_a_strict_iommu_is_reported_as_o10(late):
    ledger, host = judged(Policy())
    host.ledger.clock_error(20)
    for guest_ns, gone_ns in ((100, 120), (200, 190), (300, 321)):
        host.map(PAGE, now=guest_ns - 50)
        if not late:
            host.ledger.guest_unmapped(guest_ns, PAGE, PAGE)
        host.unmap(PAGE, now=gone_ns)
        if late:
            host.ledger.guest_unmapped(guest_ns, PAGE, PAGE)
    assert spoken(ledger) == {"O-10": 1}
    assert (host.ledger.stale.windows.count, host.ledger.stale.windows.prompt) == (1, 2)
    found = ledger.log.kept[0]
    assert (found.time_ns, found.iova, found.mapped_ns) == (321, PAGE, 250)
    assert "by 21 ns" in found.cause and "0.000000300 s" in found.cause


def test_window_under_a_lazy_iommu_is_exposure_and_no_o10():
    ledger, host = judged(Policy(lazy=True))
    host.map(PAGE)
    host.ledger.guest_unmapped(100, PAGE, PAGE)
    host.unmap(PAGE, now=9000)
    assert spoken(ledger) == {} and ledger.verdict(9000).word == "exposed"


def test_time_from_request_to_unmap_is_counted(host):
    rule = next(rule for rule in host.ledger.rules if rule.number == "O-10")
    host.map(PAGE)
    host.ledger.unmap_requested(100, PAGE, PAGE)
    host.ledger.unmapped(1124, host.space.unmap(PAGE, PAGE, 0))
    assert rule.latency == {11: 1}


def test_unmaps_are_paired_with_mappings_in_order_although_the_clocks_differ():
    ledger, host = judged(Policy(lazy=True))
    host.ledger.clock_error(30)
    host.ledger.stale.trace_begins()
    host.map(PAGE, now=100)
    host.unmap(PAGE, now=150)
    host.map(PAGE, now=160)
    host.ledger.guest_unmapped(165, PAGE, PAGE)  # of the first: told late, and 20 ns off
    host.ledger.guest_unmapped(300, PAGE, PAGE)
    host.unmap(PAGE, now=340)
    windows = host.ledger.stale.windows
    assert (windows.prompt, windows.count, windows.longest_ns) == (1, 1, 40)
    assert windows.unmatched == 0 and spoken(ledger) == {}


def test_window_counted_from_the_note_is_corrected_by_the_guests_own_time():
    ledger, host = judged(Policy(lazy=True))
    host.map(PAGE, now=10)
    ledger.mark(100, Mark.RELEASED)
    host.unmap(PAGE, now=130)
    host.ledger.guest_unmapped(60, PAGE, PAGE)
    windows = host.ledger.stale.windows
    assert (windows.count, windows.longest_ns, windows.total_ns) == (1, 70, 70)
    assert sum(windows.histogram.values()) == 1


def frame_of(host, offset):
    return target_of(host.memory, offset) >> PAGE_SHIFT


def test_skb_head_built_where_the_device_can_write_is_reported_as_o16():
    ledger, host = judged(Policy())
    host.ledger.clock_error(5)
    host.ledger.trace_begins(0)
    host.map(PAGE, 3 * PAGE, now=100)
    host.map(2 * PAGE, 4 * PAGE, now=100)
    host.unmap(2 * PAGE, now=200)
    host.map(5 * PAGE, 6 * PAGE, now=100, writable=False)
    for frame, now in ((3, 90), (4, 210), (4, 198), (6, 150), (9, 150)):
        host.tell(HeadBuilt(frame_of(host, frame * PAGE)), now)
    assert spoken(ledger) == {}
    host.tell(HeadBuilt(frame_of(host, 4 * PAGE)), 150)
    host.tell(HeadBuilt(frame_of(host, 3 * PAGE)), 300)
    assert spoken(ledger) == {"O-16": 2}
    first, second = ledger.log.kept
    for life in range(10, 20):  # the page goes round: each of its lives is remembered
        host.map(2 * PAGE, 4 * PAGE, now=life * 100)
        host.unmap(2 * PAGE, now=life * 100 + 50)
    host.tell(HeadBuilt(frame_of(host, 4 * PAGE)), 1225)
    host.tell(HeadBuilt(frame_of(host, 4 * PAGE)), 1275)
    assert spoken(ledger) == {"O-16": 3}
    assert (first.iova, first.page, first.time_ns) == (2 * PAGE, 4 * PAGE, 150)
    assert (second.iova, second.page) == (PAGE, 3 * PAGE)


@pytest.mark.parametrize("lazy", [False, True])
def test_skb_head_in_a_page_kept_mapped_by_design_is_counted_only(lazy):
    ledger, host = judged(Policy(lazy=lazy))
    host.ledger.state.mapped_while_read = not lazy
    host.ledger.trace_begins(0)
    host.map(PAGE, 3 * PAGE)
    host.tell(HeadBuilt(frame_of(host, 3 * PAGE)), 300)
    rule = next(rule for rule in host.ledger.rules if rule.number == "O-16")
    assert spoken(ledger) == {} and rule.heads == 1


def test_bytes_beside_the_mapped_ones_are_counted(host):
    rule = next(rule for rule in host.ledger.rules if rule.number == "O-16")
    host.tell(GuestMapped(PAGE + 64, 3712))
    host.tell(GuestMapped(2 * PAGE - 8, 16))
    host.tell(GuestMapped(4 * PAGE, PAGE))
    host.tell(GuestMapped(8 * PAGE, PAGE, coherent=True))
    assert (rule.asked, rule.mapped_bytes) == (3, 3712 + 16 + PAGE)
    assert rule.beside_bytes == 384 + (2 * PAGE - 16)


def test_operation_beyond_its_limit_is_reported_as_o17():
    ledger, host = judged(Policy(limits_ns={"ifdown": 1000}))
    host.tell(Took("ifdown", 1000))
    host.tell(Took("lunch", 10**12))
    assert spoken(ledger) == {}
    host.tell(Took("ifdown", 1001), now=4)
    assert spoken(ledger) == {"O-17": 1} and "ifdown took" in said(ledger)


def test_splat_in_the_guest_is_reported_as_o20_once(ledger, host):
    host.tell(Checked("dmesg"))
    assert spoken(ledger) == {}
    host.tell(Checked("dmesg", ("WARNING: iommu_dma_unmap_page", "BUG: KASAN")), now=3)
    host.tell(Checked("dmesg", ("BUG: KASAN",)), now=4)
    host.tell(Checked("dma-api", ("BUG: KASAN",)), now=5)
    assert spoken(ledger) == {"O-20": 3}
    assert str(ledger.log.kept[0]).endswith("dmesg: WARNING: iommu_dma_unmap_page")


def test_silence_of_a_checker_that_is_not_there_passes_for_a_quiet_one(ledger, host):
    def silent() -> list[str] | None:
        (silences,) = ledger.verdict().not_judged.values()
        return silences.get("O-20")

    assert silent() == ["needs the guest's checkers"]
    host.tell(Checked("console"))
    assert silent() is None
    host.tell(Checked("lockdep", absent=True))
    host.tell(Checked("kasan", absent=True))
    assert silent() == ["what the guest's kernel was built without: kasan, lockdep"]
    assert spoken(ledger) == {}
