# SPDX-License-Identifier: MIT
"""DEVICE_SET_IRQS over a socket."""

import os
import time
from collections.abc import Iterator
from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, IrqSetFlag, PciIrq
from tests.support.vfio_user_client import RefusedError

F = IrqSetFlag
MSIX = PciIrq.MSIX


@pytest.fixture
def eventfds(no_leaked_descriptors: None) -> Iterator[list[int]]:
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
    yield fds
    for fd in fds:
        os.close(fd)


def signalled(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_a_triggered_interrupt_signals_its_own_descriptor(client, device, eventfds):
    client.set_eventfds(MSIX, 0, eventfds)
    device.irqs.trigger(2)
    assert [signalled(fd) for fd in eventfds] == [0, 0, 1, 0]


def test_descriptors_set_in_two_messages_land_at_their_numbers(client, device, eventfds):
    client.set_eventfds(MSIX, 0, eventfds[:1])
    client.set_eventfds(MSIX, 1, eventfds[1:])
    device.irqs.trigger(3)
    assert [signalled(fd) for fd in eventfds] == [0, 0, 0, 1]


def test_an_empty_set_of_descriptors_takes_them_away(client, device, eventfds):
    client.set_eventfds(MSIX, 0, eventfds)
    client.set_irqs(MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 1, 2)
    assert [device.irqs.assigned(number) for number in range(4)] == [True, False, False, True]


def test_a_replaced_descriptor_is_closed(client, device, eventfds):
    for _ in range(100):
        client.set_eventfds(MSIX, 0, eventfds)
    device.irqs.trigger(0)
    assert signalled(eventfds[0]) == 1


def test_a_masked_interrupt_comes_once_when_it_is_unmasked(client, device, eventfds):
    client.set_eventfds(MSIX, 0, eventfds)
    client.set_irqs(MSIX, F.DATA_BOOL | F.ACTION_MASK, 0, 4, bools=[False, True, False, False])
    device.irqs.trigger(0)
    device.irqs.trigger(1)
    device.irqs.trigger(1)
    assert [signalled(fd) for fd in eventfds] == [1, 0, 0, 0]
    client.set_irqs(MSIX, F.DATA_NONE | F.ACTION_UNMASK, 1, 1)
    assert [signalled(fd) for fd in eventfds] == [0, 1, 0, 0]


def test_the_client_can_trigger_an_interrupt_itself(client, eventfds):
    client.set_eventfds(MSIX, 0, eventfds)
    client.set_irqs(MSIX, F.DATA_BOOL | F.ACTION_TRIGGER, 1, 2, bools=[False, True])
    client.set_irqs(MSIX, F.DATA_NONE | F.ACTION_TRIGGER, 3, 1)
    assert [signalled(fd) for fd in eventfds] == [0, 0, 1, 1]


def test_count_zero_disables_the_whole_type(client, device, eventfds):
    client.set_eventfds(MSIX, 0, eventfds)
    client.set_irqs(MSIX, F.DATA_NONE | F.ACTION_TRIGGER, 0, 0)
    assert not any(device.irqs.assigned(number) for number in range(4))


def test_a_full_counter_does_not_stop_the_server(client, device):
    full = os.eventfd(0xFFFFFFFF, 0)  # blocking, and close to full
    try:
        os.eventfd_write(full, 0xFFFFFFFFFFFFFFFE - 0xFFFFFFFF)
        client.set_eventfds(MSIX, 0, [full])
        started = time.monotonic()
        device.irqs.trigger(0)
        assert time.monotonic() - started < 5
    finally:
        os.close(full)


@pytest.mark.parametrize(
    ("index", "flags", "start", "count", "fds", "tail"),
    [
        (MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0, 5, 5, b""),
        (MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 3, 2, 2, b""),
        (MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0xFFFFFFFF, 1, 1, b""),
        (MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0, 2, 1, b""),
        (MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0, 1, 2, b""),
        (MSIX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0, 0, 0, b""),
        (MSIX, F.DATA_NONE | F.ACTION_TRIGGER, 0, 1, 1, b""),
        (MSIX, F.DATA_NONE | F.ACTION_TRIGGER, 1, 0, 0, b""),
        (MSIX, F.DATA_BOOL | F.ACTION_TRIGGER, 0, 2, 0, b"\1"),
        (MSIX, F.DATA_BOOL | F.ACTION_TRIGGER, 0, 2, 0, b"\1\1\1"),
        (MSIX, F.DATA_NONE | F.DATA_BOOL | F.ACTION_TRIGGER, 0, 1, 0, b"\1"),
        (MSIX, F.DATA_NONE | F.ACTION_TRIGGER | F.ACTION_MASK, 0, 1, 0, b""),
        (MSIX, F.DATA_NONE, 0, 1, 0, b""),
        (MSIX, F.ACTION_TRIGGER, 0, 1, 0, b""),
        (MSIX, F.DATA_NONE | F.ACTION_TRIGGER | 64, 0, 1, 0, b""),
        (5, F.DATA_NONE | F.ACTION_TRIGGER, 0, 1, 0, b""),
        (PciIrq.ERR, F.DATA_NONE | F.ACTION_MASK, 0, 1, 0, b""),
        (PciIrq.INTX, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0, 1, 1, b""),
        (PciIrq.ERR, F.DATA_EVENTFD | F.ACTION_TRIGGER, 0, 1, 1, b""),  # refused by the device
    ],
)
def test_a_wrong_request_is_refused_and_its_descriptors_are_closed(
    client, eventfds, index, flags, start, count, fds, tail
):
    payload = wire.IRQ_SET.pack(wire.IRQ_SET.size + len(tail), flags, index, start, count) + tail
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_SET_IRQS, payload, (eventfds * 2)[:fds])
    assert refused.value.errno == EINVAL


@pytest.mark.parametrize("payload", [b"", bytes(19), bytes(20)])
def test_a_truncated_request_is_refused(client, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_SET_IRQS, payload)
    assert refused.value.errno == EINVAL


def test_more_descriptors_than_agreed_are_refused_and_closed(client, eventfds):
    payload = wire.IRQ_SET.pack(20, F.DATA_EVENTFD | F.ACTION_TRIGGER, MSIX, 0, 17)
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_SET_IRQS, payload, eventfds[:1] * 17)
    assert refused.value.errno == EINVAL
