# SPDX-License-Identifier: MIT
"""Transmitting: wraps, pieces, bad descriptors."""

from __future__ import annotations

import numpy as np

from emulator.frames import FrameBatch
from emulator.nic import registers as r
from emulator.nic.tx import join
from emulator.ports import RingKind
from tests.support.nic_host import Host, Script, Side, frame


def transmitting(**config: object) -> tuple[Host, Script, Side]:
    wire = Script()
    host = Host(wire, **config)
    host.up()
    return host, wire, host.side("TX")


def test_frames_are_sent_in_order_over_many_ring_wraps() -> None:
    host, wire, tx = transmitting(batch=13, prefetch=10)
    frames = [frame(60 + i % 1400, tag=i % 256) for i in range(1000)]
    for at in range(0, 1000, 37):
        tx.send(frames[at : at + 37])
        host.run()
        done = tx.poll()
        assert [entry["frame_len"] for entry in done] == [len(f) for f in frames[at : at + 37]]
        assert {entry["len"] for entry in done} == {1}
        assert {entry["status"] >> 1 for entry in done} == {3}
    assert wire.sent == frames
    assert host.stat("TX_PACKETS") == 1000
    assert host.stat("TX_BYTES") == sum(map(len, frames))
    assert host.watcher.delivered[0, RingKind.TX_CQ] == 1000


def send_pieces(host: Host, tx: Side, data: bytes, sizes: list[int]) -> None:
    at = 0
    for i, size in enumerate(sizes):
        place = tx.buffer_at(tx.posted)
        host.memory(place, size)[:] = np.frombuffer(data[at : at + size], np.uint8)
        tx.fill(1, [size], flags=int(i == len(sizes) - 1))
        at += size
    tx.ring_doorbell()


def test_frame_of_many_pieces_is_sent_whole_with_one_completion() -> None:
    host, wire, tx = transmitting()
    data = bytes(range(256)) * 30
    for _ in range(40):
        send_pieces(host, tx, data[:5000], [14, 986, 2000, 2000])
        host.run()
        (entry,) = tx.poll()
        assert (entry["len"], entry["frame_len"]) == (4, 5000)
        assert entry["id"] == (tx.posted - 1) % tx.size
    assert wire.sent == [data[:5000]] * 40


def test_frame_waits_for_its_last_piece() -> None:
    host, wire, tx = transmitting()
    tx.fill(2, [100, 100], flags=0)
    tx.ring_doorbell()
    assert host.run() is None
    assert (wire.sent, tx.poll()) == ([], [])
    tx.fill(1, [100], flags=1)
    tx.ring_doorbell()
    host.run()
    assert [len(f) for f in wire.sent] == [300]


def test_frame_of_more_pieces_than_are_prefetched_is_sent() -> None:
    host, wire, tx = transmitting(prefetch=4, batch=4)
    send_pieces(host, tx, bytes(600), [20] * 30)
    host.run()
    assert [len(f) for f in wire.sent] == [600]


def test_ring_full_of_pieces_without_an_end_is_a_ring_fault() -> None:
    host, _wire, tx = transmitting()
    tx.fill(64, [100] * 64, flags=0)
    tx.ring_doorbell()
    host.run()
    assert not tx.running
    assert host.read(r.DMABED_EVENT) == r.DMABED_EVENT_LINK | r.DMABED_EVENT_RING_FAULT
    assert host.stat("TX_ERRORS") == 1


def test_too_long_and_too_short_frames_are_completed_as_errors() -> None:
    host, wire, tx = transmitting()
    send_pieces(host, tx, bytes(10000), [2000] * 5)
    send_pieces(host, tx, bytes(13), [13])
    send_pieces(host, tx, bytes(60), [60])
    host.run()
    errors = [bool(e["status"] & r.DMABED_COMPLETION_STATUS_ERROR) for e in tx.poll()]
    assert errors == [True, True, False]
    assert [len(f) for f in wire.sent] == [60]
    assert (host.stat("TX_ERRORS"), host.stat("TX_PACKETS")) == (2, 1)


def test_one_8_byte_write_rings_both_doorbells() -> None:
    wire = Script([frame(60)])
    host = Host(wire)
    host.up()
    rx, tx = host.side("RX"), host.side("TX")
    rx.fill(1)
    tx.fill(1, [60])
    host.write(rx.reg("TAIL"), 1 << 32 | 1, 8)
    host.run()
    assert (len(rx.poll()), len(tx.poll()), len(wire.sent)) == (1, 1, 1)


def test_join_copies_pieces_that_do_not_lie_side_by_side() -> None:
    data = np.arange(20, dtype=np.uint8)
    pieces = FrameBatch(data, np.array([10, 0, 5]), np.array([3, 2, 4]))
    frames = join(pieces, np.array([0, 2]), np.array([5, 4]))
    assert list(frames) == [bytes([10, 11, 12, 0, 1]), bytes([5, 6, 7, 8])]
