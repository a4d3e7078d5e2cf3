# SPDX-License-Identifier: MIT
"""Arming, moderation, events and bus mastering."""

from __future__ import annotations

import pytest

from emulator.nic import registers as r
from tests.support.nic_host import Host, Script, Side, frame

US = 1000


def receiving(usecs: int = 0, frames: int = 0) -> tuple[Host, Script, Side]:
    wire = Script()
    host = Host(wire)
    host.up()
    host.write(r.qp_base(0) + r.DMABED_QP_MODERATION, usecs | frames << 16)
    rx = host.side("RX")
    rx.post(rx.size)
    host.run()
    return host, wire, rx


def arrive(host: Host, wire: Script, count: int) -> None:
    wire.queue += [frame(60)] * count
    host.run()


def test_unarmed_pair_is_silent() -> None:
    host, wire, _ = receiving()
    arrive(host, wire, 3)
    assert host.irqs.take() == []


def test_armed_pair_interrupts_once_for_its_first_batch() -> None:
    host, wire, _ = receiving()
    host.arm(0, 0, 0)
    assert host.irqs.take() == []
    arrive(host, wire, 3)
    arrive(host, wire, 3)
    assert host.irqs.take() == [1]
    assert host.stat("INTERRUPTS") == 1


@pytest.mark.parametrize("usecs", [0, 50])
def test_completion_between_last_poll_and_arm_interrupts_at_once(usecs: int) -> None:
    host, wire, rx = receiving(usecs)
    arrive(host, wire, 2)
    seen = len(rx.poll())
    arrive(host, wire, 1)
    host.arm(0, seen, 0)
    assert host.irqs.take() == [1]


def test_transmit_completion_not_seen_interrupts_at_arm() -> None:
    host, _, _ = receiving()
    tx = host.side("TX")
    tx.send([frame(60)])
    host.run()
    host.arm(0, 0, 1)
    assert host.irqs.take() == []
    host.arm(0, 0, 0)
    assert host.irqs.take() == [1]


def test_arm_counts_are_compared_modulo_2_to_the_16() -> None:
    host, wire, rx = receiving()
    host.write(rx.reg("CTRL"), 0)
    rx = host.side("RX", log2=12, buffer=64)
    rx.post(rx.size)
    for _ in range((1 << 16) // rx.size):
        arrive(host, wire, rx.size)
        rx.seen += rx.size
        rx.post(rx.size)
    assert host.stat("RX_PACKETS") == 1 << 16
    host.arm(0, 0, 0)
    assert host.irqs.take() == []


def test_moderation_waits_from_the_first_unannounced_completion() -> None:
    host, wire, _ = receiving(usecs=50)
    host.arm(0, 0, 0)
    host.now = 1000 * US
    arrive(host, wire, 1)
    host.now = 1030 * US
    arrive(host, wire, 1)
    assert host.irqs.take() == []
    host.now = 1050 * US - 1
    assert host.run() == 1050 * US
    assert host.irqs.take() == []
    host.now = 1050 * US
    assert host.run() is None
    assert host.irqs.take() == [1]


def test_frame_bound_ends_the_wait_early() -> None:
    host, wire, _ = receiving(usecs=1000, frames=5)
    host.arm(0, 0, 0)
    arrive(host, wire, 4)
    assert host.irqs.take() == []
    arrive(host, wire, 1)
    assert host.irqs.take() == [1]


def test_interrupt_is_not_forgotten_while_bus_mastering_is_off() -> None:
    host, wire, _ = receiving(usecs=50)
    host.arm(0, 0, 0)
    arrive(host, wire, 1)
    host.nic.bus_master(False, host.now)
    host.now = 100 * US
    host.run()
    host.arm(0, 0, 0)
    assert host.irqs.take() == []
    host.nic.bus_master(True, host.now)
    assert host.irqs.take() == [1]


def test_each_pair_has_its_own_vector() -> None:
    wire = Script()
    host = Host(wire)
    host.up()
    tx = host.side("TX", queue=2)
    host.arm(2, 0, 0)
    tx.send([frame(60)])
    host.run()
    assert host.irqs.take() == [3]


def test_stopped_pair_does_not_interrupt_late() -> None:
    host, wire, rx = receiving(usecs=50)
    host.arm(0, 0, 0)
    arrive(host, wire, 1)
    host.write(rx.reg("CTRL"), 0)
    host.now = 100 * US
    host.run()
    assert host.irqs.take() == []


def test_link_change_raises_the_event_vector_only_if_enabled_and_clear() -> None:
    host = Host(Script())
    host.nic.bus_master(True, 0)
    host.nic.link(True, 0)
    assert host.irqs.take() == []
    assert host.read(r.DMABED_STATUS) == r.DMABED_STATUS_READY | r.DMABED_STATUS_LINK_UP
    assert host.read(r.DMABED_SPEED) == 10_000
    host.write(r.DMABED_EVENT_MASK, r.DMABED_EVENT_LINK)
    host.nic.link(False, 0)
    assert host.irqs.take() == []
    host.write(r.DMABED_EVENT, r.DMABED_EVENT_LINK)
    host.nic.link(True, 0)
    host.nic.link(True, 0)
    assert host.irqs.take() == [0]
    host.write(r.DMABED_EVENT, r.DMABED_EVENT_LINK)
    assert host.read(r.DMABED_EVENT) == 0
    host.nic.link(False, 0)
    assert (host.read(r.DMABED_SPEED), host.irqs.take()) == (0, [0])


def test_no_dma_while_bus_mastering_is_off_and_nothing_is_lost() -> None:
    host, wire, rx = receiving()
    tx = host.side("TX")
    wire.queue += [frame(60, tag=i) for i in range(30)]
    host.nic.bus_master(False, 0)
    before = len(host.dma.accesses)
    tx.send([frame(60, tag=99)])
    assert host.run() is None
    assert len(host.dma.accesses) == before
    assert (len(wire.queue), wire.sent) == (30, [])
    host.nic.bus_master(True, 0)
    host.run()
    assert rx.frames() == [frame(60, tag=i) for i in range(30)]
    assert wire.sent == [frame(60, tag=99)]
