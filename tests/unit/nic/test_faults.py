# SPDX-License-Identifier: MIT
"""Refused DMA at each stage, impossible ring values, resets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.nic import registers as r
from emulator.nic.wire.generator import Generator, GeneratorConfig
from tests.support.nic_host import MAC, Host, Script, Side, frame

ERROR = r.DMABED_COMPLETION_STATUS_ERROR
FAULTS = r.DMABED_EVENT_DMA_FAULT | r.DMABED_EVENT_RING_FAULT


def host_with(frames: int) -> tuple[Host, Script, Side, Side]:
    wire = Script([frame(60, tag=i) for i in range(frames)])
    host = Host(wire)
    host.up()
    host.write(r.DMABED_EVENT, 7)
    host.write(r.DMABED_EVENT_MASK, 7)
    return host, wire, host.side("RX"), host.side("TX")


def fault(host: Host) -> tuple[int, int]:
    iova = host.read(r.DMABED_FAULT_IOVA_LO) | host.read(r.DMABED_FAULT_IOVA_HI) << 32
    return iova, host.read(r.DMABED_FAULT_INFO)


def test_refused_rx_payload_is_an_error_completion_and_the_ring_goes_on() -> None:
    host, _, rx, _ = host_with(5)
    bad = rx.buffer_at(2)
    host.dma.refused.append((bad, bad + 1, True))
    rx.post(5)
    host.run()
    assert [bool(e["status"] & ERROR) for e in rx.poll()] == [False, False, True, False, False]
    assert (host.stat("RX_PACKETS"), host.stat("RX_ERRORS"), rx.running) == (4, 1, True)
    assert host.read(r.DMABED_EVENT) == r.DMABED_EVENT_DMA_FAULT
    assert host.irqs.take() == [0]
    assert fault(host) == (bad, 1 << 16 | r.DMABED_FAULT_INFO_WRITE | 1 << 8)


def test_one_refused_piece_makes_the_whole_frame_an_error() -> None:
    host, wire, rx, _ = host_with(0)
    wire.queue = [frame(5000), frame(60)]
    bad = rx.buffer_at(1)
    host.dma.refused.append((bad, bad + 1, True))
    rx.post(8)
    host.run()
    assert [bool(e["status"] & ERROR) for e in rx.poll()] == [True, True, True, False]
    assert (host.stat("RX_PACKETS"), host.stat("RX_ERRORS")) == (1, 1)


def test_refused_tx_payload_is_an_error_completion_and_never_sent() -> None:
    host, wire, _, tx = host_with(0)
    bad = tx.buffer_at(1)
    host.dma.refused.append((bad, bad + 1, False))
    tx.send([frame(60, tag=i) for i in range(3)])
    host.run()
    assert [bool(e["status"] & ERROR) for e in tx.poll()] == [False, True, False]
    assert wire.sent == [frame(60, tag=0), frame(60, tag=2)]
    assert (host.stat("TX_PACKETS"), host.stat("TX_ERRORS")) == (2, 1)
    assert fault(host) == (bad, 1 << 16 | r.DMABED_FAULT_INFO_TX | 1 << 8)


@pytest.mark.parametrize("name", ["RX", "TX"])
def test_refused_descriptor_fetch_stops_the_ring(name: str) -> None:
    host, wire, rx, tx = host_with(1)
    side = rx if name == "RX" else tx
    host.dma.refused.append((side.ring, side.ring + 1, False))
    side.post(1)
    assert host.run() is None
    assert not side.running
    assert fault(host)[0] == side.ring
    assert fault(host)[1] & 0xF00 == 0
    assert len(wire.queue) == 1


@pytest.mark.parametrize("name", ["RX", "TX"])
def test_refused_completion_stops_the_ring(name: str) -> None:
    host, _, rx, tx = host_with(1 if name == "RX" else 0)
    side = rx if name == "RX" else tx
    host.dma.refused.append((side.cq, side.cq + 16, True))
    side.post(1)
    host.run()
    assert not side.running
    assert fault(host)[1] & 0xF00 == 2 << 8
    assert fault(host)[1] & r.DMABED_FAULT_INFO_WRITE
    assert host.stat("RX_PACKETS") == 0


def test_fault_record_holds_the_first_and_counts_until_cleared() -> None:
    host, wire, rx, _ = host_with(10)
    host.dma.refused.append((rx.buffers, rx.buffers + rx.buffer * 64, True))
    rx.post(10)
    host.run()
    assert fault(host) == (rx.buffers, 10 << 16 | r.DMABED_FAULT_INFO_WRITE | 1 << 8)
    host.write(r.DMABED_EVENT, r.DMABED_EVENT_LINK)
    assert fault(host)[1] >> 16 == 10
    host.write(r.DMABED_EVENT, r.DMABED_EVENT_DMA_FAULT)
    assert fault(host) == (0, 0)
    wire.queue = [frame(60)]
    rx.post(1)
    host.run()
    assert fault(host)[0] == rx.buffer_at(10)
    assert host.irqs.take() == [0, 0]


@pytest.mark.parametrize("name", ["RX", "TX"])
def test_zero_length_descriptor_is_a_ring_fault(name: str) -> None:
    host, _wire, rx, tx = host_with(1)
    side = rx if name == "RX" else tx
    side.post(3, [100, 0, 100])
    host.run()
    assert not side.running
    assert host.read(r.DMABED_EVENT) == r.DMABED_EVENT_RING_FAULT
    assert host.irqs.take() == [0]


@pytest.mark.parametrize("tail", [65, 0x80000000, 0xFFFFFFFF])
def test_tail_more_than_a_ring_ahead_is_a_ring_fault(tail: int) -> None:
    host, _, rx, _ = host_with(1)
    host.write(rx.reg("TAIL"), tail)
    assert not rx.running
    assert host.read(r.DMABED_EVENT) == r.DMABED_EVENT_RING_FAULT


def test_tail_that_goes_back_is_a_ring_fault() -> None:
    host, _, rx, _ = host_with(0)
    rx.post(10)
    host.run()
    host.write(rx.reg("TAIL"), 9)
    assert not rx.running


@pytest.mark.parametrize(
    ("register", "value"),
    [("RING_LO", 8), ("CQ_LO", 1), ("SIZE", 5), ("SIZE", 13), ("RING_HI", None)],
)
def test_impossible_ring_does_not_start(register: str, value: int | None) -> None:
    host, _, rx, _ = host_with(0)
    host.write(rx.reg("CTRL"), 0)
    if value is None:
        host.write(rx.reg("RING_LO"), 0xFFFFFFF0)
        value = 0xFFFFFFFF
    host.write(rx.reg(register), value)
    host.write(rx.reg("CTRL"), 1)
    assert host.read(rx.reg("CTRL")) == 0
    assert host.read(r.DMABED_EVENT) == r.DMABED_EVENT_RING_FAULT


def test_ring_registers_are_read_only_while_the_ring_runs() -> None:
    host, _, rx, tx = host_with(0)
    for side in (rx, tx):
        for name in ("RING_LO", "RING_HI", "CQ_LO", "CQ_HI", "SIZE"):
            before = host.read(side.reg(name))
            host.write(side.reg(name), 0)
            assert host.read(side.reg(name)) == before


def test_restarted_ring_counts_from_zero_and_forgets_old_descriptors() -> None:
    host, wire, rx, _ = host_with(3)
    rx.post(40)
    host.run()
    host.write(rx.reg("CTRL"), 0)
    assert host.read(rx.reg("CTRL")) == 0
    wire.queue = [frame(60, tag=7)]
    assert host.run() is None
    rx.start()
    assert host.read(rx.reg("HEAD")) == 0
    assert host.run() is None
    rx.post(1)
    host.run()
    assert rx.frames() == [frame(60, tag=7)]
    assert host.read(rx.reg("HEAD")) == 1


def test_reset_under_traffic_stops_everything_but_keeps_the_mac() -> None:
    wire = Generator(GeneratorConfig(flows=4))
    host = Host(wire)
    host.up(queues=2)
    sides = [host.side("RX", queue) for queue in range(2)] + [host.side("TX")]
    for side in sides:
        side.post(64)
    host.write(r.DMABED_MAC_LO, 0x44332211)
    host.arm(0, 0, 0)
    host.nic.step(0)
    host.irqs.take()
    host.arm(0, 5, 5)
    host.write(r.DMABED_CTRL, r.DMABED_CTRL_RESET)
    host.irqs.take()
    before = len(host.dma.accesses)
    assert host.run() is None
    assert len(host.dma.accesses) == before
    assert host.irqs.take() == []
    assert host.watcher.running == set()
    assert host.stat("RX_PACKETS") == 0
    assert host.read(r.DMABED_MAC_LO) == 0x44332211
    assert host.read(r.DMABED_MAX_FRAME) == 1518
    assert (host.read(r.DMABED_CTRL), host.read(r.DMABED_EVENT)) == (0, 0)
    assert host.read(sides[0].reg("SIZE")) == 0
    host.nic.power_reset(0)
    assert host.read(r.DMABED_MAC_LO) == int.from_bytes(MAC[:4], "little")


OPERATIONS = st.one_of(
    st.tuples(
        st.sampled_from(["RX", "TX"]),
        st.sampled_from(["RING_LO", "RING_HI", "CQ_LO", "CQ_HI", "SIZE", "CTRL", "TAIL"]),
        st.one_of(st.integers(0, 80), st.integers(0, 0xFFFFFFFF)),
    ),
    st.tuples(st.just("DESC"), st.integers(0, 63), st.binary(min_size=16, max_size=16)),
    st.tuples(st.just("BAR"), st.integers(0, 0x10100), st.integers(0, (1 << 64) - 1)),
    st.tuples(st.just("STEP"), st.just(0), st.just(0)),
)


@settings(max_examples=80, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=60), pause=st.booleans())
def test_hostile_driver_causes_no_exception_and_reset_still_stops_all_dma(
    operations: list[tuple[str, int | str, int | bytes]], pause: bool
) -> None:
    host = Host(Generator(GeneratorConfig(flows=9)), memory=1 << 20, pause=pause)
    host.up()
    sides = {name: host.side(name) for name in ("RX", "TX")}
    for kind, where, value in operations:
        if kind == "DESC":
            at = sides["RX"].ring + int(where) * 16
            host.memory(at, 16)[:] = list(bytes(value))
            at = sides["TX"].ring + int(where) * 16
            host.memory(at, 16)[:] = list(bytes(value))
        elif kind == "BAR":
            host.write(int(where), int(value), 8 if int(value) & 1 else 4)
            host.read(int(where), 8)
        elif kind == "STEP":
            host.nic.step(0)
        else:
            host.write(sides[kind].reg(str(where)), int(value))
    for _ in range(5):
        host.nic.step(0)
    host.write(r.DMABED_CTRL, r.DMABED_CTRL_RESET)
    before = len(host.dma.accesses)
    assert host.run() is None
    assert len(host.dma.accesses) == before
    assert host.watcher.running == set()
