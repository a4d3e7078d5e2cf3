# SPDX-License-Identifier: MIT
"""Rules about what a driver does with buffers, rings and bus mastering: O-1, 3, 5, 11, 15, 19."""

import pytest

from emulator.ledger import Ledger, Mark, Policy
from emulator.ledger.facts import Freed, Held
from tests.unit.ledger.support import PAGE, RX, TX, Host, said, spoken


@pytest.mark.parametrize("kind", [RX, TX])
def test_buffer_posted_where_nothing_is_mapped_is_reported_as_o1(ledger, host, kind):
    host.map(PAGE)
    host.post(PAGE, kind=kind)
    assert spoken(ledger) == {}
    host.post(PAGE, 5 * PAGE, kind=kind, now=70)
    assert spoken(ledger)["O-1"] == 1
    found = next(v for v in ledger.log.kept if v.rule == "O-1")
    assert (found.time_ns, found.iova, found.size) == (70, 5 * PAGE, 2048)
    assert "0x5000 is not mapped" in found.cause and kind.value in found.cause


def test_buffer_posted_at_the_mapping_error_is_reported_as_o1(ledger, host):
    host.map(PAGE)
    host.post((1 << 64) - 1, length=3712)
    assert spoken(ledger) == {"O-1": 1} and "0xffffffffffffffff" in said(ledger)


def test_buffer_whose_end_is_not_mapped_is_reported_as_o1(ledger, host):
    host.map(PAGE)
    host.post(2 * PAGE - 64)
    assert spoken(ledger) == {"O-1": 1} and "0x2000 is not mapped" in said(ledger)


def test_buffer_in_memory_mapped_as_a_whole_is_no_o1(ledger, host):
    host.map(0, size=4 << 20)
    host.post(PAGE, 7 * PAGE)
    assert spoken(ledger) == {}
    host.post(5 << 20)
    assert spoken(ledger) == {"O-1": 1}


def test_space_that_maps_over_a_live_mapping_is_reported_as_o1(ledger, host):
    host.map(PAGE)
    double = Host(Ledger(lambda: 0), memory=host.memory).map(PAGE, 9 * PAGE, now=8)
    host.ledger.mapped(8, double)
    assert spoken(ledger) == {"O-1": 1} and "mapped over the live mapping" in said(ledger)


def test_page_unmapped_twice_is_reported_as_o3_a_sweep_of_nothing_is_not(ledger, host):
    host.map(PAGE)
    host.unmap(PAGE)
    host.unmap(0, 1 << 62)
    assert spoken(ledger) == {}
    host.unmap(PAGE, now=9)
    assert spoken(ledger) == {"O-3": 1}
    assert ledger.log.kept[0].iova == PAGE and "unmapped before" in said(ledger)


def test_neighbours_in_a_block_cut_across_pages_are_not_taken_for_one_buffer(ledger, host):
    stride = 2112
    for page in range(9):
        host.map(PAGE + page * PAGE)
    host.post(*(PAGE + stride * number for number in range(8)), length=1984)
    host.post(*(PAGE + stride * number for number in range(8, 16)), length=1984)
    assert spoken(ledger) == {}
    host.post(PAGE + stride * 3, length=1984)
    assert spoken(ledger) == {"O-5": 1}


@pytest.mark.parametrize("length", [3712, 2048])
def test_buffer_posted_twice_is_reported_as_o5(ledger, host, length):
    for page in range(1, 5):
        host.map(page * PAGE, page * PAGE)
    host.post(PAGE + 64, 2 * PAGE + 64, length=length)
    host.give_back(PAGE + 64, length=length)
    host.post(PAGE + 64, length=length)
    assert spoken(ledger) == {}
    host.post(2 * PAGE + 64, length=length, now=33)
    assert spoken(ledger) == {"O-5": 1}
    assert (ledger.log.kept[0].time_ns, ledger.log.kept[0].iova // PAGE) == (33, 2)
    host.post(3 * PAGE, 4 * PAGE, 3 * PAGE, length=length)
    assert spoken(ledger) == {"O-5": 2}


@pytest.mark.parametrize("length", [3712, 2048])
def test_buffer_posted_on_two_queues_is_reported_as_o5(ledger, host, length):
    host.map(PAGE)
    host.post(PAGE, queue=0, length=length)
    host.post(PAGE, queue=1, length=length)
    assert spoken(ledger) == {"O-5": 1} and "queue 1" in said(ledger)


def test_two_halves_of_a_page_are_no_o5_and_the_same_half_is(ledger, host):
    host.map(PAGE)
    host.post(PAGE, PAGE + 2048)
    host.give_back(PAGE)
    host.post(PAGE)
    assert spoken(ledger) == {}
    host.post(PAGE)
    assert spoken(ledger) == {"O-5": 1}


@pytest.mark.parametrize("ending", ["stopped", "reset"])
@pytest.mark.parametrize("length", [3712, 2048])
def test_buffer_posted_again_after_its_ring_ended_is_no_o5(ledger, host, ending, length):
    host.map(PAGE)
    host.post(PAGE, length=length)
    if ending == "stopped":
        host.ledger.ring_stopped(1, 0, RX)
    else:
        host.ledger.reset(1)
    host.post(PAGE, length=length)
    assert spoken(ledger) == {}


def test_page_sent_twice_at_once_is_no_o5(ledger, host):
    host.map(PAGE)
    host.post(PAGE, PAGE, kind=TX)
    assert spoken(ledger) == {}


def test_buffer_posted_while_the_stack_reads_it_is_reported_as_o5(ledger, host):
    host.map(PAGE)
    host.map(2 * PAGE, PAGE)
    host.start(1)
    assert "while the stack reads" in host.ledger.not_judged()["O-5"][0]
    first, second = (host.ledger.live.target(iova) for iova in (PAGE, 2 * PAGE))
    host.tell(Held((first, second)), now=5)
    assert "O-5" not in host.ledger.not_judged()
    host.tell(Freed((first,)), now=6)
    host.post(PAGE)
    assert spoken(ledger) == {}
    host.post(2 * PAGE, now=7)
    assert spoken(ledger) == {"O-5": 1}
    assert "0.000000005 s" in said(ledger) and ledger.log.kept[0].iova == 2 * PAGE


def test_iova_of_a_held_buffer_that_means_another_page_now_is_reported_as_o5(ledger, host):
    host.map(PAGE)
    host.start(9)
    host.tell(Held((host.ledger.live.target(PAGE),)), now=5)
    host.unmap(PAGE)
    host.map(PAGE, 7 * PAGE)
    host.post(PAGE)
    assert spoken(ledger) == {}
    host.map(3 * PAGE, 0)  # the page that is held, by another name
    host.post(3 * PAGE)
    assert spoken(ledger) == {"O-5": 1}


def test_access_while_no_ring_runs_is_reported_as_o11(ledger, host):
    host.map(PAGE)
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {}  # a device without rings
    host.start(1)
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {}
    host.ledger.ring_stopped(3, 0, RX)
    host.dma.now_ns = 4
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {"O-11": 1} and "no ring of the device runs" in said(ledger)
    host.ledger.state.by_order = "an attack"
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {"O-11": 1}


def test_bus_mastering_left_on_by_a_driver_that_is_gone_is_reported_as_o11(ledger, host):
    ledger.mark(1, Mark.RELEASED)
    assert spoken(ledger) == {}
    ledger.mark(8, Mark.DRIVER_REMOVED)
    assert spoken(ledger) == {"O-11": 1}
    assert "left bus mastering on" in said(ledger) and ledger.log.kept[0].time_ns == 8
    host.close_gate()
    ledger.mark(9, Mark.DRIVER_REMOVED)
    assert spoken(ledger) == {"O-11": 1}


@pytest.mark.parametrize(("kind", "verb"), [(RX, "written"), (TX, "read")])
def test_buffer_mapped_in_the_wrong_direction_is_reported_as_o15(ledger, host, kind, verb):
    host.map(PAGE, readable=kind is TX, writable=kind is RX)
    host.map(2 * PAGE, PAGE, readable=kind is RX, writable=kind is TX, now=3)
    host.post(PAGE, kind=kind)
    assert spoken(ledger) == {}
    host.post(2 * PAGE, kind=kind, now=4)
    assert spoken(ledger) == {"O-15": 1}
    found = ledger.log.kept[0]
    assert (found.iova, found.mapped_ns, found.time_ns) == (2 * PAGE, 3, 4)
    assert verb in found.cause


def test_device_that_reads_a_receive_buffer_is_reported_as_o15(ledger, host):
    host.map(PAGE)
    host.map(2 * PAGE, PAGE)
    host.map(3 * PAGE, 2 * PAGE)
    host.start(3)
    host.post(PAGE, 2 * PAGE)
    host.post(2 * PAGE, kind=TX)
    host.dma.read(3 * PAGE, 16)
    host.dma.read(2 * PAGE, 16)
    host.dma.write(PAGE, b"x")
    assert spoken(ledger) == {}
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {"O-15": 1} and ledger.log.kept[0].iova == PAGE
    host.give_back(PAGE)
    host.dma.read(PAGE, 16)
    assert spoken(ledger) == {"O-15": 1}


def test_page_at_two_iovas_is_counted_and_with_an_exclusive_policy_reported_as_o19():
    for policy, expected in ((Policy(), {}), (Policy(exclusive=True), {"O-19": 1})):
        ledger = Ledger(lambda: 0, policy)
        host = Host(ledger)
        host.map(PAGE, 7 * PAGE)
        host.map(2 * PAGE, 6 * PAGE)
        host.unmap(2 * PAGE)
        host.map(2 * PAGE, 6 * PAGE)
        assert spoken(ledger) == {}
        host.map(3 * PAGE, 7 * PAGE, now=12)
        assert spoken(ledger) == expected
        rule = next(rule for rule in host.ledger.rules if rule.number == "O-19")
        assert rule.aliases == 1
        if expected:
            assert "IOVA 0x1000 too" in said(ledger) and ledger.log.kept[0].page == 7 * PAGE


def test_two_devices_that_post_one_page_are_both_named_with_their_times_by_o2(ledger, host):
    other = Host(ledger, "nic1", host.memory)
    host.map(PAGE, 5 * PAGE, now=11)
    other.map(9 * PAGE, 5 * PAGE, now=22)
    host.post(PAGE, queue=3)
    other.post(9 * PAGE, now=33)
    line = said(ledger)
    words = ["O-2 nic1", "0.000000033 s", "nic0", "posted there as well", "0x1000"]
    words += ["0.000000011 s", "guest page 0x5000", "0.000000022 s"]
    for word in words:
        assert word in line


@pytest.mark.parametrize("lazy", [False, True])
def test_page_another_device_can_still_write_is_reported_as_o2_when_posted(lazy):
    ledger = Ledger(lambda: 0, Policy(lazy=lazy))
    host = Host(ledger)
    other = Host(ledger, "nic1", host.memory)
    other.map(7 * PAGE, 4 * PAGE, writable=False)
    other.map(8 * PAGE, 3 * PAGE)
    other.ledger.note(0, 1)
    other.map(9 * PAGE, 5 * PAGE, now=22)
    for page in (3, 4, 5):
        host.map(page * PAGE, page * PAGE)
    host.post(3 * PAGE, 4 * PAGE)
    assert spoken(ledger) == {}
    host.post(5 * PAGE)
    assert spoken(ledger) == ({} if lazy else {"O-2": 1})
    if not lazy:
        assert "still mapped there, at IOVA 0x9000" in said(ledger)


def test_every_rule_names_what_it_needs_and_is_silent_about_what_it_lacks(host):
    silent = host.ledger.not_judged()
    for rule in host.ledger.rules:
        assert rule.number.startswith("O-") and rule.title and rule.speaks
        missing = rule.needs - host.ledger.state.signals
        if missing:
            assert all(signal.value in silent[rule.number][0] for signal in missing)
    assert "O-1" in silent and "O-3" in silent and "O-10" in silent
    assert [rule.number for rule in host.ledger.rules] == [f"O-{n}" for n in range(1, 21)]


def test_verdict_says_which_rules_did_not_judge(ledger, host):
    verdict = ledger.verdict()
    (line,) = verdict.silences
    assert "O-8 needs" in line and "page_pool counts" in line
    assert "O-2 needs a second device" in line and "O-6 needs late payload checks" in line
    assert line in verdict.summary and verdict.to_json()["not_judged"]["nic0"]["O-20"]
    host.start(1)
    assert "O-3" not in ledger.verdict().not_judged["nic0"]


def test_rule_that_waits_for_a_signal_or_a_peer_is_not_called(ledger, host):
    names = {hook.__self__.number for hook in host.ledger._on_mapped}
    assert names.isdisjoint({"O-2", "O-16"})
    Host(ledger, "nic1")
    host.ledger.trace_begins(0)
    assert names | {"O-2", "O-16"} == {hook.__self__.number for hook in host.ledger._on_mapped}
    assert {hook.__self__.number for hook in host.ledger._on_returned} == {"O-5", "O-12"}


def test_driver_is_blamed_for_a_map_that_was_refused_by_order(ledger, host):
    host.ledger.map_refused(1, PAGE, PAGE)
    host.post(PAGE)
    host.unmap(PAGE)
    assert spoken(ledger) == {} and set(ledger.log.ordered) == {"O-1", "O-3"}
    host.unmap(PAGE, now=5)  # once more: nobody ordered this
    assert set(spoken(ledger)) == {"O-3"}


def test_page_that_was_mapped_after_all_stays_excused(ledger, host):
    host.ledger.map_refused(1, PAGE, 2 * PAGE)
    host.map(PAGE)
    host.unmap(PAGE)
    host.post(PAGE, 2 * PAGE)
    assert spoken(ledger) == {"O-1": 1} and ledger.log.kept[0].iova == PAGE
