# SPDX-License-Identifier: MIT
"""Receiving: rings, phases, pieces, steering, pauses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.frames import FrameBatch
from emulator.nic import registers as r
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig, Range
from emulator.nic.wire.testframes import Checker
from emulator.ports import RingKind
from tests.support.nic_host import BASE, MAC, Host, Script, frame

STATUS = r.DMABED_COMPLETION_STATUS_SOP | r.DMABED_COMPLETION_STATUS_EOP


def generator(**config: object) -> Generator:
    return Generator(GeneratorConfig(**config))  # type: ignore[arg-type]


@pytest.mark.parametrize("log2", [6, 9])
def test_every_frame_arrives_intact_over_many_ring_wraps(log2: int) -> None:
    wire = generator(seed=1, sizes=Range(60, 1514), count=5000)
    host = Host(wire)
    host.up()
    rx = host.side("RX", log2=log2)
    check = Checker()
    rx.post(rx.size)
    while not wire.done:
        host.run()
        new = rx.frames()
        check.take(FrameBatch.of(new))
        rx.post(len(new))
    assert (check.frames, check.corrupt, check.misordered) == (5000, 0, 0)
    assert host.stat("RX_PACKETS") == 5000
    assert host.watcher.delivered[0, RingKind.RX_CQ] == 5000


def test_odd_refills_keep_phase_and_order() -> None:
    wire = generator(seed=2, count=3000)
    host = Host(wire, prefetch=7)
    host.up()
    rx = host.side("RX")
    check, refill = Checker(), 0
    rx.post(50)
    while not wire.done:
        host.run()
        new = rx.frames()
        check.take(FrameBatch.of(new))
        refill = refill % 13 + 1
        rx.post(min(refill, rx.size - (rx.posted - rx.seen)))
    host.run()
    check.take(FrameBatch.of(rx.frames()))
    assert (check.frames, check.corrupt, check.misordered) == (3000, 0, 0)


@pytest.mark.parametrize("buffer", [2048, 4096, 1000])
def test_jumbo_frame_continues_in_the_next_buffers(buffer: int) -> None:
    wire = generator(seed=3, sizes=Fixed(9014), count=300)
    host = Host(wire)
    host.up()
    rx = host.side("RX", buffer=buffer)
    check = Checker()
    rx.post(rx.size)
    for _ in range(300):
        host.run()
        before = rx.seen
        check.take(FrameBatch.of(rx.frames()))
        rx.post(rx.seen - before)
    assert (check.frames, check.corrupt, check.misordered) == (300, 0, 0)
    assert host.stat("RX_BYTES") == 300 * 9014


def test_completions_of_a_jumbo_frame_carry_sop_eop_and_frame_len() -> None:
    host = Host(Script([frame(5000)]))
    host.up()
    rx = host.side("RX")
    rx.post(10)
    host.run()
    entries = rx.poll()
    flags = [entry["status"] & STATUS for entry in entries]
    assert flags == [r.DMABED_COMPLETION_STATUS_SOP, 0, r.DMABED_COMPLETION_STATUS_EOP]
    assert [entry["len"] for entry in entries] == [2048, 2048, 904]
    assert {entry["frame_len"] for entry in entries} == {5000}
    assert [entry["id"] for entry in entries] == [0, 1, 2]


def test_buffers_of_unequal_size_are_filled_one_after_the_other() -> None:
    frames = [frame(n, tag=n % 251) for n in (100, 64, 1500, 60, 700)]
    host = Host(Script(list(frames)))
    host.up()
    rx = host.side("RX")
    rx.post(12, [64, 64, 64, 1000, 500, 60, 300, 300, 300, 64, 64, 64])
    host.run()
    assert rx.frames() == frames


def test_paused_wire_is_asked_for_no_more_than_descriptors_take_and_loses_nothing() -> None:
    wire = Script([frame(60, tag=i % 256) for i in range(500)])
    host = Host(wire)
    host.up()
    rx = host.side("RX")
    host.run()
    assert wire.asked == []
    rx.post(20)
    assert host.run() is None
    assert (len(wire.queue), host.stat("RX_PACKETS"), max(wire.asked)) == (480, 20, 20)
    while wire.queue:
        rx.post(len(rx.frames()))
        host.run()
    assert host.stat("RX_PACKETS") == 500
    assert host.stat("RX_DROPS") == 0


def test_paused_jumbo_waits_for_its_last_descriptor() -> None:
    host = Host(Script([frame(5000, tag=1), frame(60, tag=2)]))
    host.up()
    rx = host.side("RX")
    rx.post(2)
    assert host.run() is None
    assert rx.poll() == []
    rx.post(2)
    host.run()
    assert rx.frames() == [frame(5000, tag=1), frame(60, tag=2)]


def test_without_pause_frames_are_delivered_or_counted_as_dropped() -> None:
    wire = generator(seed=4, sizes=Range(60, 4000), flows=50, count=2000)
    host = Host(wire, pause=False)
    host.up(queues=2)
    sides = [host.side("RX", queue) for queue in range(2)]
    while not wire.done:
        for side in sides:
            side.post(min(40, side.size - (side.posted - side.seen)))
        host.run()
        for side in sides:
            side.frames()
    delivered = sum(host.stat("RX_PACKETS", q) for q in range(2))
    dropped = sum(host.stat("RX_DROPS", q) for q in range(2))
    assert dropped > 0
    assert delivered + dropped == 2000


def test_too_long_frames_are_errors_not_packets() -> None:
    host = Host(Script([frame(1519), frame(1518), frame(13)]))
    host.up()
    host.write(r.DMABED_MAX_FRAME, 1518)
    rx = host.side("RX")
    rx.post(4)
    host.run()
    assert [len(f) for f in rx.frames()] == [1518]
    assert (host.stat("RX_PACKETS"), host.stat("RX_ERRORS")) == (1, 1)


def test_frame_that_no_ring_could_hold_does_not_block_the_queue() -> None:
    host = Host(Script([frame(9000), frame(60, tag=5)]))
    host.up()
    rx = host.side("RX", buffer=64)
    rx.post(64)
    host.run()
    assert rx.frames() == [frame(60, tag=5)]
    assert host.stat("RX_ERRORS") == 1


@pytest.mark.parametrize(
    ("filtering", "expected"), [(0, "ab"), (2, "abc"), (1, "abcd")], ids=["none", "multi", "all"]
)
def test_receive_filter_drops_what_is_for_others(filtering: int, expected: str) -> None:
    dsts = {"a": MAC, "b": b"\xff" * 6, "c": b"\x01\x00\x5e\0\0\1", "d": b"\x02\0\0\0\0\x55"}
    host = Host(Script([frame(60, dst, tag=ord(name)) for name, dst in dsts.items()]))
    host.up(promisc=False)
    host.write(r.DMABED_RX_FILTER, filtering)
    rx = host.side("RX")
    rx.post(10)
    host.run()
    assert "".join(chr(f[20]) for f in rx.frames()) == expected


def test_no_frame_passes_while_the_mac_is_disabled_or_the_link_is_down() -> None:
    host = Host(Script([frame(60)] * 3))
    host.up()
    rx = host.side("RX")
    rx.post(10)
    host.write(r.DMABED_CTRL, 0)
    assert host.run() is None
    host.write(r.DMABED_CTRL, 1)
    host.nic.link(False, 0)
    assert host.run() is None
    assert rx.poll() == []
    host.nic.link(True, 0)
    host.run()
    assert len(rx.frames()) == 3


def test_flows_go_round_the_queues_and_stay_in_theirs() -> None:
    wire = generator(seed=5, flows=8, count=800)
    host = Host(wire)
    host.up(queues=4)
    sides = [host.side("RX", queue, log2=9) for queue in range(4)]
    for side in sides:
        side.post(512)
    host.run()
    for queue, side in enumerate(sides):
        entries = side.poll()
        assert {entry["hash"] for entry in entries} == {queue, queue + 4}


def test_returned_is_told_before_the_completion_is_written() -> None:
    host = Host(Script([frame(60)] * 4))
    host.up()
    rx = host.side("RX")
    rx.post(4)
    original = host.dma.write

    def write(iova: int, data: object) -> None:
        assert host.watcher.log == ["returned"]
        assert host.watcher.owned[0, RingKind.RX_DESC] == []
        original(iova, data)

    host.dma.write = write
    host.run()
    assert len(rx.poll()) == 4


def test_a_new_phase_bit_never_stands_beside_an_old_body() -> None:
    """A guest may see the bytes of one DMA write in any order: here it looks after each byte."""
    host = Host(Script([frame(60 + i) for i in range(150)]))
    host.up()
    rx = host.side("RX")
    torn = []

    def write(iova: int, data: object) -> None:
        flat = data if isinstance(data, bytes) else data.tobytes()  # type: ignore[attr-defined]
        for k in reversed(range(len(flat))):
            host.dma.memory[iova - BASE + k] = flat[k]
            look()

    def look() -> None:
        first = rx.seen
        for index, entry in enumerate(rx.poll(), first):
            if not entry["len"] == entry["frame_len"] == 60 + index:
                torn.append(entry)

    host.dma.write = write
    rx.post(64)
    while rx.seen < 150:
        host.run()
        rx.post(rx.seen + rx.size - rx.posted)
    assert torn == []


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(14, 3000), min_size=1, max_size=60),
    buffers=st.lists(st.integers(1, 2048), min_size=64, max_size=64),
)
def test_any_buffer_lengths_deliver_the_bytes_or_an_error(
    lengths: list[int], buffers: list[int]
) -> None:
    frames = [frame(n, tag=i) for i, n in enumerate(lengths)]
    host = Host(Script(list(frames)))
    host.up()
    rx = host.side("RX")
    rx.post(64, buffers)
    host.run()
    got = rx.frames()
    assert got == frames[: len(got)] or host.stat("RX_ERRORS")
    for _ in range(len(frames)):
        rx.post(min(rx.seen + 64 - rx.posted, 64), [2048] * 64)
        host.run()
        got += rx.frames()
    assert len(got) + host.stat("RX_ERRORS") == len(frames)
    assert [f for f in frames if f in got] == got


def test_buffer_is_told_as_posted_before_the_bell_rang(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []
    host = Host(Script([]))
    host.up()
    rx = host.side("RX")
    monkeypatch.setattr(host.watcher, "posted", lambda now_ns, *_: times.append(now_ns))
    host.now = 2000
    rx.post(4)
    host.now = 1500  # a round of the loop began, then the doorbell came, then the device's turn
    host.run()
    host.now = 3000
    host.run()
    assert times == [2000]
