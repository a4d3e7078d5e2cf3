# SPDX-License-Identifier: MIT
"""Delays of maps and unmaps: what is told when, in the session's own clock."""

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from emulator.vfio_user.session import Session
from tests.support.vfio_user_client import map_payload, unmap_payload
from tests.support.vfio_user_device import ExampleDevice

PAGE = 4096


def running_session() -> tuple[Session, ExampleDevice]:
    device = ExampleDevice()
    device.free()
    session = Session(device)
    session.feed(wire.encode(0, Command.VERSION, bytes(4)), [], 0)
    return session, device


def ids(actions):
    return [wire.HEADER.unpack_from(action.data)[0] for action in actions]


def do_map(session, msg_id, iova, now_ns, flags=0):
    message = wire.encode(msg_id, Command.DMA_MAP, map_payload(iova, PAGE), flags)
    return session.feed(message, [], now_ns)


def do_unmap(session, msg_id, iova, now_ns, flags=0):
    message = wire.encode(msg_id, Command.DMA_UNMAP, unmap_payload(iova, PAGE), flags)
    return session.feed(message, [], now_ns)


def test_without_delay_everything_is_done_in_one_go():
    session, device = running_session()
    assert ids(do_map(session, 1, 0, 100)) == [1]
    assert ids(do_unmap(session, 2, 0, 200)) == [2]
    assert session.next_due_ns() is None
    assert [(call[0], call[-1]) for call in device.calls] == [
        ("map", 100),
        ("unmap begin", 200),
        ("unmap finish", 200),
    ]


def test_an_unmap_takes_effect_right_before_its_reply_and_not_earlier():
    session, device = running_session()
    do_map(session, 1, 0, 0)
    device.unmap_ns = 1000
    assert do_unmap(session, 2, 0, 50) == []
    assert session.next_due_ns() == 1050
    assert session.poll(1049) == []
    assert 0 in device.mappings
    assert ids(session.poll(1050)) == [2]
    assert device.mappings == {}


def test_delays_follow_each_other_and_do_not_overlap():
    session, device = running_session()
    device.map_ns, device.unmap_ns = 100, 1000
    assert do_map(session, 1, 0, 0) == []
    assert do_unmap(session, 2, 0, 10) == []
    assert do_map(session, 3, 0, 20) == []  # where it was: no EEXIST, it comes after the unmap
    released = {}
    now_ns = 0
    while (due_ns := session.next_due_ns()) is not None:
        now_ns = due_ns
        for msg_id in ids(session.poll(now_ns)):
            released[msg_id] = now_ns
    assert released == {1: 100, 2: 1100, 3: 1200}
    assert list(device.mappings) == [0]


def test_a_late_poll_does_not_stretch_the_model():
    session, device = running_session()
    device.map_ns = 100
    do_map(session, 1, 0, 0)
    do_map(session, 2, PAGE, 0)
    do_map(session, 3, 2 * PAGE, 0)
    assert ids(session.poll(250)) == [1, 2]
    assert session.next_due_ns() == 300


def test_what_arrives_after_the_one_before_was_due_starts_when_it_arrives():
    session, device = running_session()
    device.map_ns = 100
    do_map(session, 1, 0, 0)
    do_map(session, 2, PAGE, 500)  # the first was due at 100 and nobody has polled
    assert ids(session.poll(500)) == [1]
    assert session.next_due_ns() == 600


def test_a_refusal_keeps_its_place_and_takes_no_time():
    session, device = running_session()
    device.map_ns = 100
    do_map(session, 1, 0, 0)
    do_map(session, 2, 0, 0)
    do_map(session, 3, PAGE, 0)
    first = session.poll(100)
    assert ids(first) == [1, 2]
    assert wire.HEADER.unpack_from(first[1].data)[3] & wire.ERROR
    assert ids(session.poll(200)) == [3]


def test_no_reply_is_honoured_in_the_queue_too():
    session, device = running_session()
    device.map_ns = 100
    do_map(session, 1, 0, 0, wire.NO_REPLY)
    do_map(session, 2, 0, 0, wire.NO_REPLY)
    do_unmap(session, 3, 0, 0, wire.NO_REPLY)
    do_map(session, 4, PAGE, 0)
    assert ids(session.poll(10_000)) == [4]
    assert list(device.mappings) == [PAGE]


def test_register_accesses_overtake_a_delayed_unmap():
    session, device = running_session()
    device.unmap_ns = 1000
    do_unmap(session, 1, 0, 0)
    read = wire.encode(2, Command.REGION_READ, wire.REGION_ACCESS.pack(0, 0, 4))
    assert ids(session.feed(read, [], 1)) == [2]


@pytest.mark.slow
def test_hundreds_of_thousands_of_small_maps_and_one_sweep_over_the_address_space():
    session, device = running_session()
    count = 300_000
    for page in range(count):
        assert len(do_map(session, page & 0xFFFF, page * PAGE, page)) == 1
    assert len(device.mappings) == count
    device.calls.clear()
    sweep = unmap_payload(0x100000000, 0xFFFFFFFF01100000 - 0x100000000)
    assert len(session.feed(wire.encode(1, Command.DMA_UNMAP, sweep), [], 0)) == 1
    assert len(device.mappings) == count
    everything = unmap_payload(0, 0, wire.DmaUnmapFlag.ALL)
    assert len(session.feed(wire.encode(2, Command.DMA_UNMAP, everything), [], 0)) == 1
    assert device.mappings == {}
