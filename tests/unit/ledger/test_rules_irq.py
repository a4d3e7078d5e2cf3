# SPDX-License-Identifier: MIT
"""Rules about completions and interrupts: O-12, O-13, O-14."""

import numpy as np
import pytest

from emulator.ledger import Ledger, Policy
from emulator.ledger.facts import Armed, Interrupted, TableWritten, VectorsChanged
from emulator.ledger.signals import Signal
from tests.unit.ledger.support import CQ, PAGE, RX, TX, Host, said, spoken

STALL = 1000


@pytest.fixture
def ledger():
    return Ledger(lambda: 0, Policy(stall_ns=STALL))


@pytest.fixture
def host(ledger):
    made = Host(ledger)
    made.start(1)
    made.ledger.provides(Signal.IRQ)
    return made


def arm(host, rx=(0, 0), tx=(0, 0), size=64, now=0, queue=0):
    host.tell(Armed(queue, rx[0], rx[1], size, tx[0], tx[1], size), now)


@pytest.mark.parametrize("side", ["rx", "tx"])
def test_completion_consumed_that_was_never_written_is_reported_as_o12(ledger, host, side):
    arm(host, **{side: (10, 10)})
    arm(host, **{side: (10, 12)})
    arm(host, **{side: (65535, 65535)})
    arm(host, **{side: (3, 3)})
    assert spoken(ledger) == {"O-12": 1}  # 65535 after 10 is less than before, modulo 2^16
    arm(host, **{side: (6, 4)}, now=9)
    assert spoken(ledger) == {"O-12": 2}
    assert f"{side} of queue 0" in said(ledger) and "2 more completions" in said(ledger)
    assert ledger.log.kept[-1].time_ns == 9


def test_completions_consumed_again_are_reported_as_o12(ledger, host):
    arm(host, rx=(20, 30))
    arm(host, rx=(30, 30))
    assert spoken(ledger) == {}
    arm(host, rx=(25, 30))
    assert spoken(ledger) == {"O-12": 1} and "fewer completions" in said(ledger)


def test_driver_that_seldom_arms_is_not_taken_for_one_that_goes_back(ledger, host):
    arm(host, rx=(1500, 1500))
    none = np.zeros(1000, np.uint64)
    for _ in range(40):
        host.ledger.returned(1, 0, RX, none, np.ones(1000, np.int64))
    arm(host, rx=(41500, 41500))
    assert spoken(ledger) == {}
    arm(host, rx=(41400, 41500))
    assert spoken(ledger) == {"O-12": 1}


def test_watchdog_that_asks_for_an_interrupt_is_not_blamed_by_o12(ledger, host):
    arm(host, rx=(769, 769), tx=(700, 700))
    arm(host, rx=(769 ^ 0xFFFF, 780), tx=(700 ^ 0xFFFF, 700))
    arm(host, rx=(780, 780), tx=(700, 700))
    assert spoken(ledger) == {}
    arm(host, rx=(780 ^ 0xFFFF, 780), tx=(700, 700))
    assert spoken(ledger) == {"O-12": 1}


def test_counts_wrap_and_start_over_with_the_ring_without_o12(ledger, host):
    for count in (0, 30000, 60000, (60000 + 30000) % 65536):
        arm(host, rx=(count, count))
    host.ledger.ring_stopped(1, 0, RX)
    host.start(1)
    arm(host, rx=(0, 0))
    host.ledger.reset(2)
    host.start(1)
    arm(host, rx=(0, 0))
    arm(host, rx=(9, 2), size=0)
    assert spoken(ledger) == {}


def look(ledger, now):
    return ledger.verdict(now).counts


def test_interrupt_that_nobody_answers_is_reported_as_o13_once(ledger, host):
    arm(host, now=10)
    host.tell(Interrupted(1, 0), now=100)
    assert look(ledger, 100 + STALL) == {}
    assert look(ledger, 101 + STALL) == {"O-13": 1}
    assert "no answer (driver bug)" in said(ledger) and "0.000000100 s" in said(ledger)
    assert look(ledger, 9 * STALL) == {"O-13": 1}


@pytest.mark.parametrize("answer", ["arm", "post", "stop", "reset", "gate"])
def test_interrupt_that_is_answered_is_no_o13(ledger, host, answer):
    host.map(PAGE)
    arm(host, now=10)
    host.tell(Interrupted(1, 0), now=100)
    match answer:
        case "arm":
            arm(host, now=200)
        case "post":
            host.post(PAGE)
        case "stop":
            host.ledger.ring_stopped(200, 0, RX)
        case "reset":
            host.ledger.reset(200)
        case "gate":
            host.close_gate()
    assert look(ledger, 9 * STALL) == {}


def test_frames_to_send_pass_for_an_answer_to_an_interrupt(ledger, host):
    """The stack sends on, pings for instance, while nobody polls the queue."""
    host.map(PAGE)
    arm(host, now=10)
    host.tell(Interrupted(1, 0), now=100)
    host.post(PAGE, kind=TX, now=900)
    assert look(ledger, 101 + STALL) == {"O-13": 1}
    assert "no answer (driver bug)" in said(ledger)


@pytest.mark.parametrize("early", [True, False])
def test_completion_without_interrupt_is_reported_as_o13(ledger, host, early):
    arm(host, rx=(0, 3 if early else 0), now=100)
    if not early:
        host.ledger.packets(100, 0, CQ, 4)
        host.ledger.packets(900, 0, CQ, 4)
    assert look(ledger, 100 + STALL) == {}
    assert look(ledger, 101 + STALL) == {"O-13": 1}
    assert "no interrupt (device bug)" in said(ledger)


def test_completion_that_is_announced_or_polled_for_is_no_o13(ledger, host):
    arm(host, now=100)
    host.ledger.packets(100, 0, CQ, 4)
    host.tell(Interrupted(1, 0), now=150)
    host.ledger.packets(160, 0, CQ, 4)  # the driver polls
    arm(host, rx=(8, 8), now=170)
    host.ledger.packets(180, 0, CQ, 0)
    assert look(ledger, 9 * STALL) == {}


def test_vector_that_is_off_or_masked_is_reported_as_o14(ledger, host):
    host.tell(Interrupted(0))
    assert spoken(ledger) == {}  # nothing is known of its state yet
    host.tell(VectorsChanged((0, 1, 2), enabled=True))
    host.tell(Interrupted(1))
    host.tell(VectorsChanged((1,), masked=True))
    host.tell(Interrupted(2))
    assert spoken(ledger) == {}
    host.tell(Interrupted(1), now=5)
    assert spoken(ledger) == {"O-14": 1} and "it is masked" in said(ledger)
    host.tell(VectorsChanged((1,), masked=False))
    host.tell(Interrupted(1))
    host.tell(VectorsChanged((0, 1, 2), enabled=False, masked=False))
    host.tell(Interrupted(2), now=6)
    assert spoken(ledger) == {"O-14": 2} and "vector 2" in said(ledger)
    assert "not enabled" in said(ledger)


def test_message_while_bus_mastering_is_off_is_reported_as_o14(ledger, host):
    host.tell(VectorsChanged((1,), enabled=True))
    host.close_gate()
    host.tell(Interrupted(1))
    assert spoken(ledger) == {"O-14": 1} and "bus mastering is off" in said(ledger)


def test_write_to_a_live_table_entry_is_reported_as_o14(ledger, host):
    host.tell(TableWritten(3, live=False))
    assert spoken(ledger) == {}
    host.tell(TableWritten(3, live=True))
    assert spoken(ledger) == {"O-14": 1} and "vector 3" in said(ledger)


def test_arm_is_told_as_two_pairs_of_counts(ledger, host):
    host.ledger.armed(7, 2, 5 << 16 | 9, 4 << 16 | 9, (64, 64))
    assert spoken(ledger) == {"O-12": 1} and "tx of queue 2" in said(ledger)
    event = ledger.timeline.to_array()[-1]
    assert (event["time_ns"], event["extra"]) == (7, 2) and np.uint64(event["iova"]) == 5 << 16 | 9
