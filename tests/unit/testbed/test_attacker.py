# SPDX-License-Identifier: MIT
"""The attacking NIC: writes after the note only, where it is let, and knows when it is over."""

import numpy as np

from emulator.nic.config import NicConfig
from emulator.ports import RingKind
from testbed.attack.attacker import CANARY, MAGIC, AttackNic
from tests.support.nic_host import BASE, FlatDma, Irqs, Script, Watcher

PAGE = 4096


class Lone(AttackNic):
    """An attacker in flat memory, with two pages posted."""

    def __init__(self):
        super().__init__(NicConfig(mac=bytes(6)), Script())
        self.flat = FlatDma(8 * PAGE)
        self.attach(self.flat, Irqs(), Watcher())
        self.bus_master(True, 0)
        key = 0, RingKind.RX_DESC
        self.observer.ring_started(0, *key, BASE, PAGE)
        self.observer.ring_started(0, 0, RingKind.TX_DESC, BASE + PAGE, PAGE)
        iovas = np.array([BASE + 2 * PAGE + 64, BASE + 5 * PAGE + 64], np.uint64)
        self.observer.posted(0, *key, iovas, np.full(2, 64))
        self.observer.posted(0, 0, RingKind.TX_DESC, iovas[:1] + np.uint64(PAGE), np.full(1, 64))

    def canary(self, page):
        return CANARY.unpack_from(self.flat.memory, page * PAGE + 2048)


def test_nothing_is_written_before_the_driver_has_given_its_memory_back_or_unarmed():
    nic = Lone()
    nic.step(1000)
    nic.observer.note(2000, 2)
    nic.step(3000)
    assert not nic.flat.memory.any() and nic.result.targets == 0
    nic.armed = True
    nic.observer.note(4000, 1)
    nic.step(5000)
    assert not nic.flat.memory.any()


def test_each_page_is_written_until_it_refuses_and_its_window_is_told():
    nic = Lone()
    nic.armed = True
    nic.observer.note(1000, 2)
    assert nic.step(900) == 900  # a step that began before the note was written
    assert nic.step(5000) == 5000
    assert nic.canary(2) == (MAGIC, BASE + 2 * PAGE + 2048, 4000)
    assert nic.canary(5)[0] == MAGIC and not nic.result.over
    nic.flat.refused.append((BASE + 2 * PAGE, BASE + 3 * PAGE, True))
    nic.step(8000)
    nic.flat.refused.append((BASE + 5 * PAGE, BASE + 6 * PAGE, True))
    assert nic.step(9000) is None
    result = nic.result
    assert (result.targets, result.hit, result.over) == (2, 2, True)
    assert (result.windows, result.writes) == ((4000, 7000), 5)
    assert not nic.flat.memory[: 2 * PAGE].any() and not nic.flat.memory[3 * PAGE : 5 * PAGE].any()


def test_memory_that_refuses_at_once_was_never_hit():
    nic = Lone()
    nic.flat.refused.append((BASE, BASE + 8 * PAGE, True))
    nic.armed = True
    nic.observer.note(1000, 2)
    nic.step(2000)
    assert (nic.result.targets, nic.result.hit, nic.result.writes) == (2, 0, 0)
    assert nic.result.over and not nic.flat.memory.any()


def test_mapping_that_never_goes_ends_the_attack():
    nic = Lone()
    nic.armed = True
    nic.observer.note(0, 2)
    nic.step(1)
    nic.step(6_000_000_000)
    assert nic.result.over and nic.result.hit == 2
