# SPDX-License-Identifier: MIT
"""The flow hash: what it depends on, what not, and how it spreads."""

from __future__ import annotations

import dpkt
import numpy as np
import pytest

from emulator.frames import FrameBatch
from emulator.nic.steering import Filter, by_queue, steer
from emulator.nic.wire.testframes import build


def hashes(frames: list[bytes]) -> list[int]:
    batch = FrameBatch.of(frames)
    passed, found = steer(batch, Filter(mac=0, promisc=True, allmulti=False))
    assert len(passed) == len(frames)
    return found.tolist()


def packet(
    host: int = 1, port: int = 1, version: int = 4, fill: bytes = b"", more: bool = False
) -> bytes:
    udp = dpkt.udp.UDP(sport=port, dport=9, data=fill, ulen=8 + len(fill))
    if version == 4:
        ip = dpkt.ip.IP(src=host.to_bytes(4, "big"), dst=b"\x0a\0\0\1", p=17, data=udp)
        ip.mf = int(more)
    else:
        ip = dpkt.ip6.IP6(src=host.to_bytes(16, "big"), dst=b"\xfe" * 16, nxt=17, plen=8, data=udp)
        ip.extension_hdrs = {}
    kind = 0x0800 if version == 4 else 0x86DD
    return bytes(dpkt.ethernet.Ethernet(type=kind, data=ip)).ljust(60, b"\0")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("what", ["host", "port"])
def test_ip_flows_spread_evenly(version: int, what: str) -> None:
    queues = np.array(hashes([packet(version=version, **{what: i}) for i in range(1, 2001)])) % 4
    assert np.bincount(queues, minlength=4).min() > 400


@pytest.mark.parametrize("version", [4, 6])
def test_payload_does_not_move_a_flow(version: int) -> None:
    assert len(set(hashes([packet(version=version, fill=bytes([i]) * i) for i in range(50)]))) == 1


def test_fragments_of_one_packet_stay_together() -> None:
    first, second = hashes([packet(port=1, more=True), packet(port=2, more=True)])
    assert first == second


def test_other_frames_are_told_apart_by_their_addresses() -> None:
    frames = [bytes(6) + i.to_bytes(6, "big") + b"\x12\x34" + bytes(46) for i in range(1000)]
    assert np.bincount(np.array(hashes(frames)) % 4).min() > 180


def test_bytes_behind_a_short_frame_do_not_count() -> None:
    short = bytes(12) + b"\x12\x34"
    assert len(set(hashes([short, short, packet(3)])[:2])) == 1


def test_hash_of_a_test_frame_is_its_flow_whatever_else_is_in_the_batch() -> None:
    flows = np.array([0, 5, 70000])
    frames = build(b"\xff" * 6, b"\2" * 6, flows, np.zeros(3, np.int64), np.full(3, 60))
    assert hashes(list(frames)) == [0, 5, 70000]
    assert hashes([*frames, packet()])[:3] == [0, 5, 70000]


def test_frames_of_a_queue_keep_their_order_and_none_is_left_out() -> None:
    flows = np.random.default_rng(4).integers(0, 1 << 32, 500, dtype=np.uint32)
    order, ends = by_queue(flows, 3)
    np.testing.assert_array_equal(order, np.argsort(flows % 3, kind="stable"))
    np.testing.assert_array_equal(ends, np.cumsum(np.bincount(flows % 3, minlength=3)))


@pytest.mark.parametrize(
    ("promisc", "allmulti", "passing"),
    [(True, False, [0, 1, 2, 3]), (False, True, [0, 1, 2]), (False, False, [0, 1])],
)
def test_filter_takes_its_own_address_broadcast_and_what_it_is_told_to(
    promisc: bool, allmulti: bool, passing: list[int]
) -> None:
    mac = bytes.fromhex("02dbed00000a")
    stations = [mac, b"\xff" * 6, b"\x01" + mac[1:], mac[:5] + b"\x0b"]
    runt = mac + bytes(7)
    frames = FrameBatch.of([*(station + packet()[6:] for station in stations), runt])
    passed, hashes = steer(frames, Filter(int.from_bytes(mac, "little"), promisc, allmulti))
    assert [data[:6] for data in passed] == [stations[i] for i in passing]
    assert len(hashes) == len(passing)
