# SPDX-License-Identifier: MIT
"""REGION_WRITE over a socket."""

from errno import EINVAL, EIO

import pytest

from emulator.ports import DmaFault
from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, PciRegion
from tests.support.vfio_user_client import RefusedError
from tests.support.vfio_user_device import BAR0_SIZE

access = wire.REGION_ACCESS.pack


def test_a_write_is_acknowledged_without_its_data(client, device):
    reply = client.request(Command.REGION_WRITE, access(8, 0, 4) + b"abcd").payload
    assert reply == access(8, 0, 4)
    assert bytes(device.bar0[8:12]) == b"abcd"


def test_posted_writes_have_no_reply_and_are_done_before_a_later_read(client, device):
    for value in range(100):
        client.region_write(PciRegion.BAR0, 0, value.to_bytes(4, "little"), posted=True)
    assert client.region_read(PciRegion.BAR0, 0, 4) == (99).to_bytes(4, "little")
    assert [call[3][0] for call in device.calls] == list(range(100))


def test_a_posted_write_that_is_refused_stays_silent(client, device):
    client.region_write(PciRegion.BAR0, BAR0_SIZE, b"abcd", posted=True)
    assert client.get_info().num_regions == 9
    assert device.calls == []


def test_the_largest_write_arrives_whole(client, device):
    data = bytes(range(256)) * 4096
    client.region_write(PciRegion.BAR0, 512, data)
    assert bytes(device.bar0[512 : 512 + len(data)]) == data


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        access(0, 0, 4)[:-1],
        access(0, 0, 4) + b"abc",
        access(0, 0, 4) + b"abcde",
        access(BAR0_SIZE - 3, 0, 4) + b"abcd",
        access((1 << 64) - 4, 0, 4) + b"abcd",
        access(0, 9, 4) + b"abcd",
        access(0, PciRegion.ROM, 4) + b"abcd",
        access(0, PciRegion.VGA, 4) + b"abcd",
        access(0, 0, (1 << 20) + 1) + bytes((1 << 20) + 1),
    ],
)
def test_a_write_outside_or_malformed_is_refused(client, device, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.REGION_WRITE, payload)
    assert refused.value.errno == EINVAL
    assert device.calls == []


def test_a_named_error_of_the_device_becomes_eio_and_the_session_goes_on(client, device):
    def fail(*_: object) -> None:
        raise DmaFault(0x1000, 4, write=False, reason="not mapped")

    device.on_write = fail
    with pytest.raises(RefusedError) as refused:
        client.region_write(PciRegion.BAR0, 0, b"abcd")
    assert refused.value.errno == EIO
    assert client.get_info().num_regions == 9
