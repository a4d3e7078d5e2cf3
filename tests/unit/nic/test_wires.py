# SPDX-License-Identifier: MIT
"""What a cable can lead to: generator and checker, peer, loop, several at once."""

from __future__ import annotations

from ipaddress import IPv4Address

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.frames import FrameBatch
from emulator.nic.wire.combine import Combine
from emulator.nic.wire.generator import (
    Fixed,
    Generator,
    GeneratorConfig,
    GeneratorError,
    Imix,
    Range,
    Sizes,
)
from emulator.nic.wire.loop import Loop
from emulator.nic.wire.peer import Peer
from emulator.nic.wire.testframes import Checker, check
from tests.support.nic_host import MAC, Host, Script, frame

PEER_IP, GUEST_IP = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
PEER_MAC = bytes.fromhex("02dbed0000fe")


def take_all(config: GeneratorConfig, rooms: list[int]) -> list[bytes]:
    generator, frames = Generator(config), []
    while not generator.done:
        for room in rooms:
            frames += list(generator.receive(room, 0))
    return frames


# ---------------------------------------------------------------- generator


@pytest.mark.parametrize("sizes", [Fixed(60), Imix(), Range(60, 1514), Fixed(9014)])
def test_same_seed_gives_the_same_frames_however_they_are_taken(sizes: object) -> None:
    config = GeneratorConfig(seed=7, sizes=sizes, flows=5, count=300)  # type: ignore[arg-type]
    assert take_all(config, [300]) == take_all(config, [1, 0, 17, 64])


def test_other_seeds_give_other_frames() -> None:
    first, second = (
        take_all(GeneratorConfig(seed=seed, sizes=Imix(), flows=5, count=100), [100])
        for seed in (1, 2)
    )
    assert first != second


def test_test_frame_is_laid_out_as_documented() -> None:
    frames = take_all(GeneratorConfig(sizes=Fixed(60), flows=3, count=50, dst=MAC), [50])
    seen = dict.fromkeys(range(3), 0)
    for data in frames:
        assert data[:6] == MAC
        assert data[12:18] == bytes.fromhex("88b5dbed0001")
        flow, sequence = int.from_bytes(data[18:22], "big"), int.from_bytes(data[22:30], "big")
        assert sequence == seen[flow]
        seen[flow] += 1
        filler = bytes((sequence * 31 + flow * 17 + k) & 0xFF for k in range(30))
        assert data[30:] == filler


@pytest.mark.parametrize("sizes", [Fixed(60), Fixed(1514), Range(60, 1514)])
def test_frames_made_ahead_are_not_counted_as_sent_and_none_is_lost(sizes: Sizes) -> None:
    """Takes of every size, so that they end before, at and behind the end of what is made ahead."""
    config = GeneratorConfig(seed=9, sizes=sizes, flows=3)
    generator, checker, taken = Generator(config), Checker(), np.zeros(3, np.int64)
    for room in (1, 1022, 1, 1, 172, 173, 174, 2000, 5):
        frames = generator.receive(room, 0)
        checker.take(frames)
        taken += np.bincount(check(frames).flows, minlength=3)
        np.testing.assert_array_equal(generator.sent, taken)
    assert generator.total_sent == checker.frames == taken.sum()
    assert (checker.corrupt, checker.misordered, checker.others) == (0, 0, 0)


def test_imix_has_its_shares() -> None:
    lengths = [len(f) for f in take_all(GeneratorConfig(sizes=Imix(), count=12000), [12000])]
    counts = [lengths.count(n) for n in (60, 590, 1514)]
    assert sum(counts) == 12000
    assert counts == [pytest.approx(n, rel=0.1) for n in (7000, 4000, 1000)]


def test_range_reaches_both_ends() -> None:
    sizes = {len(f) for f in take_all(GeneratorConfig(sizes=Range(60, 63), count=200), [200])}
    assert sizes == {60, 61, 62, 63}


def test_rate_is_kept_exactly_and_the_next_due_time_is_right() -> None:
    generator = Generator(GeneratorConfig(rate_pps=3_000_000))
    now, sent = 1000, 0
    for _ in range(1000):
        sent += len(generator.receive(10, now))
        due = generator.next_due_ns(now)
        assert due is not None
        assert due > now
        assert len(generator.receive(10, due - 1)) == 0
        now = due
    assert sent == 1000
    assert now - 1000 == pytest.approx(1000 * 1e9 / 3e6, abs=1)


@pytest.mark.parametrize("bad", [{"sizes": Fixed(20)}, {"rate_pps": 0}, {"flows": 0}])
def test_impossible_generator_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(GeneratorError):
        GeneratorConfig(**bad)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_checker_finds_any_flipped_byte_of_header_or_filler(data: st.DataObject) -> None:
    frames = take_all(GeneratorConfig(sizes=Range(30, 200), flows=3, count=20), [20])
    victim = data.draw(st.integers(0, 19))
    at = data.draw(st.integers(12, len(frames[victim]) - 1))
    broken = bytearray(frames[victim])
    broken[at] ^= data.draw(st.integers(1, 255))
    frames[victim] = bytes(broken)
    checker = Checker()
    checker.take(FrameBatch.of(frames))
    assert checker.others + checker.corrupt + checker.misordered > 0


def test_checker_counts_lost_doubled_and_reordered_frames() -> None:
    frames = take_all(GeneratorConfig(count=10), [10])
    for order in ([0, 1, 3, 4], [0, 1, 1, 2], [0, 2, 1, 3]):
        checker = Checker()
        for i in order:
            checker.take(FrameBatch.of([frames[i]]))
        assert checker.misordered > 0, order
        assert checker.corrupt == 0


def test_foreign_frames_are_not_test_frames() -> None:
    verdicts = check(FrameBatch.of([frame(60), frame(14), b""]))
    assert not verdicts.test.any()


def test_loop_through_the_nic_checks_clean_end_to_end() -> None:
    """What the generator sent is received, sent again by the guest, and checked by it."""
    wire = Generator(GeneratorConfig(seed=3, sizes=Imix(), flows=6, count=2000))
    host = Host(wire)
    host.up()
    rx, tx = host.side("RX"), host.side("TX")
    rx.post(64)
    while wire.checker.frames < 2000:
        host.run()
        frames = rx.frames()
        tx.send(frames)
        rx.post(len(frames))
    assert (wire.checker.corrupt, wire.checker.misordered, wire.checker.others) == (0, 0, 0)
    np.testing.assert_array_equal(wire.sent.sum(), 2000)


# ---------------------------------------------------------------- loop, combine


def test_loop_gives_back_what_was_sent_in_order() -> None:
    loop, frames = Loop(), [frame(60 + i, tag=i) for i in range(20)]
    loop.transmit(FrameBatch.of(frames[:12]), 0)
    loop.transmit(FrameBatch.of(frames[12:]), 0)
    got = list(loop.receive(5, 0)) + list(loop.receive(100, 0))
    assert got == frames
    assert loop.next_due_ns(5) is None


def test_loop_swaps_addresses_and_counts_what_it_cannot_hold() -> None:
    loop = Loop(swap=True, limit=3)
    loop.transmit(FrameBatch.of([frame(60, dst=MAC)] * 5), 0)
    got = list(loop.receive(10, 0))
    assert [f[6:12] for f in got] == [MAC] * 3
    assert got[0][:6] == frame(60)[6:12]
    assert loop.lost == 2


def test_combined_wires_share_the_room_and_all_hear_the_nic() -> None:
    first, second = Script([frame(60, tag=1)] * 3), Script([frame(60, tag=2)] * 3)
    both = Combine([first, second])
    assert [f[20] for f in both.receive(4, 0)] == [1, 1, 1, 2]
    both.transmit(FrameBatch.of([frame(60)]), 0)
    assert len(first.sent) == len(second.sent) == 1
    assert both.next_due_ns(9) == 9
    both.receive(4, 0)
    assert both.next_due_ns(9) is None


# ---------------------------------------------------------------- peer


def ask(data: dpkt.Packet, kind: int, dst: bytes = PEER_MAC) -> list[dpkt.ethernet.Ethernet]:
    peer = Peer(PEER_IP, PEER_MAC)
    request = dpkt.ethernet.Ethernet(dst=dst, src=MAC, type=kind, data=data)
    peer.transmit(FrameBatch.of([bytes(request).ljust(60, b"\0")]), 0)
    replies = [dpkt.ethernet.Ethernet(reply) for reply in peer.receive(10, 0)]
    assert all((reply.dst, reply.src) == (MAC, PEER_MAC) for reply in replies)
    return replies


def ipv4(data: dpkt.Packet, protocol: int, dst: IPv4Address = PEER_IP) -> dpkt.ip.IP:
    return dpkt.ip.IP(src=GUEST_IP.packed, dst=dst.packed, p=protocol, id=77, data=data)


def checked(reply: dpkt.ethernet.Ethernet) -> dpkt.ip.IP:
    """The IPv4 packet of ``reply``; asserts its header checksum and length."""
    raw = bytes(reply.data)
    header = raw[:20]
    assert dpkt.in_cksum(header) == 0
    assert reply.data.len == len(raw)
    assert (reply.data.src, reply.data.dst) == (PEER_IP.packed, GUEST_IP.packed)
    return reply.data


def test_peer_answers_arp_for_its_own_address_only() -> None:
    def arp(target: IPv4Address) -> dpkt.arp.ARP:
        return dpkt.arp.ARP(sha=MAC, spa=GUEST_IP.packed, tpa=target.packed)

    (reply,) = ask(arp(PEER_IP), 0x0806, dst=b"\xff" * 6)
    assert reply.data.op == dpkt.arp.ARP_OP_REPLY
    assert (reply.data.sha, reply.data.spa) == (PEER_MAC, PEER_IP.packed)
    assert (reply.data.tha, reply.data.tpa) == (MAC, GUEST_IP.packed)
    assert ask(arp(GUEST_IP), 0x0806, dst=b"\xff" * 6) == []


@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_peer_answers_ping_with_right_checksums(size: int) -> None:
    echo = dpkt.icmp.ICMP.Echo(id=5, seq=6, data=bytes(range(256))[:size] * (1 + size // 256))
    (reply,) = ask(ipv4(dpkt.icmp.ICMP(type=8, data=echo), 1), 0x0800)
    answer = checked(reply).data
    assert (answer.type, bytes(answer.data)) == (dpkt.icmp.ICMP_ECHOREPLY, bytes(echo))
    assert dpkt.in_cksum(bytes(answer)) == 0


@pytest.mark.parametrize("size", [0, 1, 100, 1472])
def test_peer_echoes_udp_port_7_with_right_checksums(size: int) -> None:
    data = b"x" * size
    (reply,) = ask(ipv4(dpkt.udp.UDP(sport=4000, dport=7, data=data, ulen=8 + size), 17), 0x0800)
    udp = checked(reply).data
    assert (udp.sport, udp.dport, udp.data, udp.ulen) == (7, 4000, data, 8 + size)
    pseudo = PEER_IP.packed + GUEST_IP.packed + b"\0\x11" + udp.ulen.to_bytes(2, "big")
    assert dpkt.in_cksum(pseudo + bytes(udp)) == 0


def test_peer_ignores_what_is_not_for_it() -> None:
    ping = dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=1, seq=1))
    assert ask(ipv4(ping, 1), 0x0800, dst=MAC) == []
    assert ask(ipv4(ping, 1, dst=GUEST_IP), 0x0800) == []
    assert ask(ipv4(dpkt.udp.UDP(sport=4000, dport=8, ulen=8), 17), 0x0800) == []
    assert ask(ipv4(dpkt.icmp.ICMP(type=0, data=b""), 1), 0x0800) == []


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00"]), rest=st.binary())
def test_peer_survives_any_frame(kind: bytes, rest: bytes) -> None:
    ip = b"\x45\0" + len(rest).to_bytes(2, "big") + bytes(5) + rest[:1].ljust(1, b"\1") + bytes(2)
    header = PEER_MAC + MAC + kind
    peer = Peer(PEER_IP, PEER_MAC)
    frames = [header + rest, header + ip + GUEST_IP.packed + PEER_IP.packed + rest, rest]
    peer.transmit(FrameBatch.of(frames), 0)
    peer.receive(10, 0)


def test_ping_through_the_nic() -> None:
    ping = dpkt.icmp.ICMP(type=8, data=dpkt.icmp.ICMP.Echo(id=1, seq=2, data=b"abc"))
    request = dpkt.ethernet.Ethernet(dst=PEER_MAC, src=MAC, type=0x0800, data=ipv4(ping, 1))
    host = Host(Combine([Peer(PEER_IP, PEER_MAC), Script()]))
    host.up(promisc=False)
    rx, tx = host.side("RX"), host.side("TX")
    rx.post(4)
    tx.send([bytes(request)])
    host.run()
    (reply,) = rx.frames()
    assert checked(dpkt.ethernet.Ethernet(reply)).data.data.data == b"abc"
