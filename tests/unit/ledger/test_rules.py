# SPDX-License-Identifier: MIT
"""Each rule: silent for what is legal, speaks for what it names; fails if the rule is removed."""

import json

import numpy as np
import pytest

from emulator.iommu.mapping import Mapping
from emulator.ledger import Ledger, Mark, Policy
from emulator.ports import DmaFault, RingKind
from tests.unit.ledger.support import CQ, PAGE, RX, Host, said, spoken, u64


def test_legal_life_of_a_queue_is_silent(ledger, host):
    ledger.mark(0, Mark.BASELINE)
    ledger.mark(0, Mark.DRIVER_BOUND)
    for page in range(8):
        host.map(page * PAGE, page * PAGE)
    host.ledger.ring_started(0, 0, RX, 0, PAGE)
    host.post(PAGE, 2 * PAGE)
    host.dma.write(PAGE, b"x" * 60)
    host.give_back(PAGE)
    host.unmap(PAGE)
    host.ledger.ring_stopped(0, 0, RX)
    host.unmap(0)
    host.unmap(0, 1 << 63)
    ledger.mark(1, Mark.RELEASED)
    host.close_gate()
    ledger.mark(1, Mark.DRIVER_REMOVED)
    host.unmap(0, 1 << 63)
    assert spoken(ledger) == {} and ledger.verdict().ok and ledger.verdict().word == "clean"


@pytest.mark.parametrize("write", [False, True])
def test_access_that_the_space_let_through_after_unmap_is_reported_as_o1(ledger, host, write):
    host.map(PAGE, 3 * PAGE)
    host.ledger.accessed(1, u64(PAGE), np.array([64]), write, np.array([True]))
    assert spoken(ledger) == {}
    host.unmap(PAGE)
    host.ledger.accessed(2, u64(PAGE), np.array([64]), write, np.array([True]))
    assert spoken(ledger) == {"O-1": 1}
    host.ledger.accessed(2, u64(PAGE), np.array([64]), write, np.array([False]))
    assert spoken(ledger) == {"O-1": 1}


def test_write_that_succeeded_in_a_read_only_mapping_is_reported_as_o1(ledger, host):
    host.map(PAGE, writable=False)
    host.ledger.accessed(1, u64(PAGE), np.array([64]), True, np.array([True]))
    assert spoken(ledger) == {"O-1": 1}
    with pytest.raises(DmaFault):
        host.dma.write(PAGE, b"x")
    assert spoken(ledger) == {"O-1": 1}


def test_access_whose_end_leaves_the_live_set_is_reported_as_o1(ledger, host):
    host.map(PAGE)
    host.ledger.accessed(1, u64(2 * PAGE - 8), np.array([16]), True, np.array([True]))
    assert spoken(ledger) == {"O-1": 1}


@pytest.mark.parametrize("size", [PAGE, 4 << 20])
def test_access_that_landed_on_the_wrong_page_is_reported_as_o1(ledger, host, size):
    host.map(1 << 32, PAGE, size=size)
    iovas, lengths = u64(1 << 32, (1 << 32) + 64), np.array([64, 64])
    where = host.space.translate(iovas, lengths, True)
    host.ledger.accessed(1, iovas, lengths, True, where.ok, where.targets)
    assert spoken(ledger) == {}
    wrong = where.targets + np.array([0, 7 * PAGE])
    host.ledger.accessed(1, iovas, lengths, True, where.ok, wrong)
    assert spoken(ledger) == {"O-1": 1}


def test_space_that_forgets_to_remove_a_mapping_is_reported_as_o1(ledger, host):
    kept = host.map(PAGE)
    removed = host.map(2 * PAGE)
    host.ledger.unmap_requested(0, PAGE, 2 * PAGE)
    host.ledger.unmapped(0, [removed])
    assert spoken(ledger) == {"O-1": 1}
    host.ledger.unmap_requested(0, 8 * PAGE, PAGE)
    host.ledger.unmapped(0, [kept])
    assert spoken(ledger) == {"O-1": 2}


def test_iova_of_the_other_device_is_reported_as_o2(ledger, host):
    other = Host(ledger, "nic1")
    other.map(PAGE)
    with pytest.raises(DmaFault):
        host.dma.read(PAGE, 16)
    assert spoken(ledger) == {"O-2": 1}
    assert "nic1" in ledger.log.kept[0].cause and ledger.log.kept[0].device == "nic0"
    host.ledger.accessed(0, u64(PAGE), np.array([4]), True, np.array([False]))
    assert spoken(ledger) == {"O-2": 2}
    with pytest.raises(DmaFault):
        host.dma.read(9 * PAGE, 16)
    host.map(PAGE)
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {"O-2": 2}


def test_page_in_the_receive_rings_of_two_devices_is_reported_as_o2(ledger, host):
    other = Host(ledger, "nic1", host.memory)
    host.map(PAGE, 5 * PAGE)
    host.post(PAGE)
    assert spoken(ledger) == {}
    other.map(9 * PAGE, 5 * PAGE)
    assert ledger.verdict().exposures[1].shared_pages == 1 and spoken(ledger) == {}
    other.post(9 * PAGE)
    assert spoken(ledger) == {"O-2": 1}


def test_exclusive_policy_reports_a_page_mapped_by_two_devices_as_o2():
    ledger = Ledger(lambda: 0, Policy(exclusive=True))
    host = Host(ledger)
    host.map(PAGE, 5 * PAGE)
    other = Host(ledger, "nic1", host.memory)
    other.map(9 * PAGE, 6 * PAGE)
    assert spoken(ledger) == {}
    other.map(PAGE, 5 * PAGE)
    assert spoken(ledger) == {"O-2": 1}
    host.unmap(PAGE)
    other.unmap(PAGE)
    other.map(PAGE, 5 * PAGE)
    assert spoken(ledger) == {"O-2": 1}


@pytest.mark.parametrize(("iova", "size"), [(PAGE, PAGE), (0, 16 * PAGE), (0, 1 << 63)])
def test_unmap_of_posted_buffer_is_reported_as_o3_when_asked_for(ledger, host, iova, size):
    host.map(PAGE, 3 * PAGE, now=5)
    host.post(PAGE + 64, PAGE + 2048)
    host.give_back(PAGE + 64)
    host.ledger.unmap_requested(77, iova, size)
    assert spoken(ledger) == {"O-3": 1}
    found = ledger.log.kept[0]
    assert (found.time_ns, found.iova, found.page, found.generation, found.mapped_ns) == (
        77, PAGE, 3 * PAGE, 1, 5,
    )  # fmt: skip
    line = str(found)
    assert "\n" not in line and all(word in line for word in ("O-3", "nic0", "0x1000", "0x3000"))


def test_buffer_that_crosses_pages_is_owned_on_both(ledger, host):
    for page in range(4):
        host.map(page * PAGE, page * PAGE)
    host.post(2 * PAGE - 64)
    host.unmap(2 * PAGE)
    assert spoken(ledger) == {"O-3": 1}


@pytest.mark.parametrize("ending", ["returned", "ring_stopped", "reset"])
def test_unmap_after_ownership_ended_is_no_o3(ledger, host, ending):
    host.map(PAGE)
    host.ledger.ring_started(0, 0, RX, 9 * PAGE, PAGE)
    host.post(PAGE)
    assert host.ledger.state.posted_count == 1
    if ending == "returned":
        host.give_back(PAGE)
    elif ending == "ring_stopped":
        host.ledger.ring_stopped(0, 0, RX)
    else:
        host.ledger.reset(0)
    assert host.ledger.state.posted_count == 0
    host.unmap(PAGE)
    assert spoken(ledger) == {}


def test_buffer_posted_on_two_rings_stays_owned_when_one_stops(ledger, host):
    host.map(PAGE)
    host.post(PAGE, queue=0)
    host.post(PAGE + 2048, queue=1)
    host.ledger.ring_stopped(0, 0, RX)
    host.unmap(PAGE)
    assert spoken(ledger) == {"O-3": 1}


@pytest.mark.parametrize(("iova", "size"), [(2 * PAGE, PAGE), (0, 16 * PAGE)])
def test_unmap_of_running_ring_is_reported_as_o4(ledger, host, iova, size):
    host.map(PAGE)
    host.map(2 * PAGE)
    host.ledger.ring_started(0, 3, CQ, PAGE + 16, PAGE)
    host.ledger.unmap_requested(1, iova, size)
    assert set(spoken(ledger)) == {"O-4"}
    assert "rx completions of queue 3" in ledger.log.kept[0].cause


def test_running_ring_with_a_new_base_is_reported_as_o4_a_stopped_one_is_not(ledger, host):
    host.ledger.ring_started(0, 0, RX, PAGE, PAGE)
    host.ledger.ring_stopped(1, 0, RX)
    host.ledger.ring_started(2, 0, RX, 2 * PAGE, PAGE)
    host.ledger.reset(3)
    host.ledger.ring_started(4, 0, RX, PAGE, PAGE)
    assert spoken(ledger) == {}
    host.ledger.ring_started(5, 0, RX, 2 * PAGE, PAGE)
    assert spoken(ledger) == {"O-4": 1}
    host.ledger.unmap_requested(6, PAGE, PAGE)
    assert spoken(ledger) == {"O-4": 1}
    host.ledger.unmap_requested(7, 2 * PAGE, PAGE)
    assert spoken(ledger) == {"O-4": 2}


@pytest.mark.parametrize("mark", [Mark.RELEASED, Mark.DRIVER_REMOVED])
def test_leftover_mapping_is_reported_as_o7_once_and_the_baseline_never(ledger, host, mark):
    host.map(0)
    ledger.mark(0, Mark.BASELINE)
    host.map(PAGE)
    host.close_gate()
    ledger.mark(5, mark)
    ledger.mark(6, Mark.DRIVER_REMOVED)
    assert spoken(ledger) == {"O-7": 1} and ledger.log.kept[0].iova == PAGE
    assert host.ledger.live_at_released == 1


def test_leftover_mapping_is_exposure_with_a_window_under_a_lazy_policy():
    ledger = Ledger(lambda: 900, Policy(lazy=True))
    host = Host(ledger)
    host.map(PAGE)
    host.map(2 * PAGE)
    ledger.mark(100, Mark.RELEASED)
    host.unmap(PAGE, now=350)
    verdict = ledger.verdict()
    assert verdict.ok and verdict.exposed and verdict.word == "exposed"
    seen = verdict.exposures[0]
    assert (seen.live_at_released, seen.windows, seen.open_windows) == (2, 2, 1)
    assert seen.longest_ns == 800
    assert seen.histogram == [(256, 1), (1024, 1)]


def test_map_after_removal_is_reported_as_o7_until_a_driver_is_bound(ledger, host):
    host.close_gate()
    ledger.mark(1, Mark.DRIVER_REMOVED)
    host.map(1 << 40, 0, 4 << 20)
    assert spoken(ledger) == {}
    host.map(PAGE)
    assert spoken(ledger) == {"O-7": 1}
    ledger.mark(2, Mark.DRIVER_BOUND)
    host.map(2 * PAGE)
    assert spoken(ledger) == {"O-7": 1}


def test_notes_of_the_driver_are_marks(ledger, host):
    host.map(0)
    host.ledger.note(1, 1)
    host.map(PAGE)
    host.ledger.note(2, 99)
    assert spoken(ledger) == {}
    host.ledger.note(3, 2)
    assert spoken(ledger) == {"O-7": 1}
    host.ledger.note(4, 3)
    assert host.ledger.state.driver_removed_ns == 4


@pytest.mark.parametrize("size", [1, 64])
def test_access_with_the_gate_closed_is_reported_as_o11(ledger, host, size):
    host.map(PAGE)
    host.ledger.gate_changed(1, False, "bus mastering is off")
    iovas, lengths = np.full(size, PAGE, np.uint64), np.full(size, 4)
    host.ledger.accessed(2, iovas, lengths, False, np.zeros(size, bool))
    assert spoken(ledger) == {}
    host.ledger.accessed(2, iovas, lengths, False, np.ones(size, bool))
    assert spoken(ledger) == {"O-11": 1}
    assert "bus mastering is off" in str(ledger.log.kept[0])


@pytest.mark.parametrize(
    ("alive", "mapped"),
    [((2, 1), (1, 2)), ((1, 2), (2, 1)), ((1, 600), (300, 1)), ((300, 1), (1, 600))],
    ids=["behind its first page", "inside", "inside a big one", "by a big one"],
)
def test_mapping_over_a_part_of_a_live_one_is_not_noticed(ledger, host, alive, mapped):
    memory, made = host.memory, []
    for generation, (page, pages) in enumerate((alive, mapped), 1):
        made.append(Mapping(page * PAGE, pages * PAGE, memory, 0, True, True, generation, 0))
        host.ledger.mapped(0, made[-1])
    assert spoken(ledger) == {"O-1": 1} and "mapped over the live mapping" in said(ledger)
    for mapping in made:
        host.ledger.unmapped(1, [mapping])
    assert host.ledger.live.owners == {}


def test_counts_per_packet_are_exact_within_a_window(ledger, host):
    host.map(0)
    ledger.window_begin(10, "w")
    for i in range(1, 301):
        host.map(i * PAGE)
        if i % 3:
            host.unmap(i * PAGE)
    host.unmap(0, 1 << 62)
    host.unmap(0, 1 << 62)
    host.ledger.packets(0, 0, CQ, 250)
    host.ledger.packets(0, 0, RingKind.TX_CQ, 50)
    seen = ledger.window_end(20, "w")
    assert (seen.maps, seen.unmaps, seen.unmap_requests) == (300, 301, 202)
    assert (seen.unmaps_by_sweep, seen.empty_unmaps) == (101, 1)
    assert (seen.packets, seen.maps_per_packet) == (300, 1.0)
    assert (seen.begin_ns, seen.end_ns) == (10, 20)
    ledger.window_begin(30, "v")
    assert ledger.window_end(40, "v").unmaps_per_packet == 0.0


@pytest.mark.parametrize("late", [False, True])
def test_stale_window_runs_from_the_guests_own_time_even_when_told_late(ledger, host, late):
    host.map(PAGE, now=10)
    if not late:
        host.ledger.guest_unmapped(100, PAGE, PAGE)
    host.unmap(PAGE, now=130)
    if late:
        host.ledger.guest_unmapped(100, PAGE, PAGE)
    host.map(PAGE, now=140)
    host.unmap(PAGE, now=150)
    windows = host.ledger.stale.windows
    assert (windows.count, windows.longest_ns, windows.unmatched) == (1, 30, 0)
    host.ledger.guest_unmapped(90, 64 * PAGE, PAGE)
    assert windows.unmatched == 1


def test_client_that_dies_leaves_nothing_alive_and_nobody_to_blame(ledger, host):
    host.map(PAGE)
    host.ledger.ring_started(0, 0, RX, PAGE, PAGE)
    host.post(PAGE)
    host.ledger.unmap_requested(1, PAGE, PAGE)
    before = spoken(ledger)
    host.ledger.closed(2)
    assert host.ledger.live.count == 0 and host.ledger.state.posted_count == 0
    assert spoken(ledger) == before


def test_flood_of_violations_is_bounded_and_counted():
    ledger = Ledger(lambda: 0, Policy(keep_violations=5))
    host = Host(ledger)
    for _ in range(10):
        host.ledger.accessed(
            0, np.full(100, PAGE, np.uint64), np.full(100, 4), True, np.ones(100, bool)
        )
    assert spoken(ledger) == {"O-1": 1000} and len(ledger.log.kept) == 5
    verdict = ledger.verdict()
    assert not verdict.ok and verdict.word == "violated O-1"
    assert "995 more" in verdict.summary[-1]
    json.dumps(verdict.to_json())
