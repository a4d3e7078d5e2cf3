# SPDX-License-Identifier: MIT
"""The cable: the peer always answers, whatever else is plugged in."""

from __future__ import annotations

from emulator.frames import FrameBatch
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from emulator.nic.wire.peer import PEER_IP
from emulator.nic.wire.testframes import check
from testbed.cable import Cable

GUEST_MAC, GUEST_IP = bytes.fromhex("02dbed00000a"), bytes((192, 0, 2, 2))
ARP_REQUEST = (
    b"\xff" * 6 + GUEST_MAC + bytes.fromhex("08060001080006040001")
    + GUEST_MAC + GUEST_IP + bytes(6) + PEER_IP.packed
)  # fmt: skip


def generator(count: int) -> Generator:
    return Generator(GeneratorConfig(seed=1, sizes=Fixed(60), count=count))


def ask(cable: Cable) -> list[bytes]:
    """What comes out of the cable after the guest has asked for the peer's address."""
    cable.transmit(FrameBatch.of([ARP_REQUEST]), 0)
    return list(cable.receive(1000, 0))


def test_peer_answers_on_an_empty_cable() -> None:
    cable = Cable()
    assert cable.next_due_ns(0) is None
    (reply,) = ask(cable)
    assert reply[:6] == GUEST_MAC and reply[12:14] == b"\x08\x06"


def test_peer_answers_beside_a_generator_and_every_frame_of_it_arrives() -> None:
    cable = Cable()
    cable.plug(generator(20))
    assert cable.next_due_ns(7) == 7
    frames = ask(cable)
    assert [frame[12:14] for frame in frames].count(b"\x08\x06") == 1
    assert int(check(FrameBatch.of(frames)).intact.sum()) == 20


def test_frames_of_the_guest_reach_what_is_plugged_in() -> None:
    cable, far = Cable(), generator(0)
    cable.plug(far)
    cable.transmit(generator(5).receive(5, 0), 0)
    assert (far.checker.frames, far.checker.corrupt) == (5, 0)


def test_unplugged_generator_sends_nothing_more_and_the_peer_stays() -> None:
    cable, source = Cable(), generator(1000)
    cable.plug(source)
    cable.receive(10, 0)
    sent = source.total_sent
    cable.plug(None)
    assert cable.next_due_ns(0) is None
    assert len(ask(cable)) == 1
    assert source.total_sent == sent


def test_what_is_plugged_in_replaces_what_was() -> None:
    cable, first, second = Cable(), generator(10), generator(10)
    cable.plug(first)
    cable.plug(second)
    cable.receive(1000, 0)
    assert (first.total_sent, second.total_sent) == (0, 10)
