# SPDX-License-Identifier: MIT
"""REGION_READ over a socket."""

from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, PciRegion
from tests.support.vfio_user_client import RefusedError
from tests.support.vfio_user_device import BAR0_SIZE

access = wire.REGION_ACCESS.pack


@pytest.mark.parametrize("count", [1, 2, 4, 8, 256])
def test_the_reply_repeats_the_request_and_carries_the_bytes(client, count):
    reply = client.request(Command.REGION_READ, access(0, PciRegion.CONFIG, count)).payload
    assert reply == access(0, PciRegion.CONFIG, count) + bytes((7 + k) & 255 for k in range(count))


def test_a_read_of_nothing_is_answered_with_nothing(client):
    assert client.region_read(PciRegion.BAR0, 0, 0) == b""


def test_the_largest_transfer_works_and_one_byte_more_is_refused(client, device):
    device.bar0[:] = bytes(range(256)) * (BAR0_SIZE // 256)
    most = 1 << 20
    assert client.region_read(PciRegion.BAR0, 256, most) == bytes(device.bar0[:most])
    with pytest.raises(RefusedError) as refused:
        client.region_read(PciRegion.BAR0, 0, most + 1)
    assert refused.value.errno == EINVAL


def test_the_agreed_transfer_size_is_the_limit(raw_client):
    raw_client.version({"max_data_xfer_size": 64})
    assert len(raw_client.region_read(PciRegion.BAR0, 0, 64)) == 64
    with pytest.raises(RefusedError):
        raw_client.region_read(PciRegion.BAR0, 0, 65)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        access(0, 0, 4)[:-1],
        access(0, 0, 4) + b"\0",
        access(BAR0_SIZE - 3, 0, 4),
        access((1 << 64) - 1, 0, 4),
        access(0, 9, 4),
        access(0, PciRegion.VGA, 1),
        access(0, 0xFFFFFFFF, 4),
        access(0, 0, 0xFFFFFFFF),
    ],
)
def test_a_read_outside_or_malformed_is_refused(client, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.REGION_READ, payload)
    assert refused.value.errno == EINVAL


def test_a_read_with_a_descriptor_is_refused_and_the_descriptor_closed(client, guest_fd):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.REGION_READ, access(0, 0, 4), [guest_fd])
    assert refused.value.errno == EINVAL


def test_hundreds_of_pipelined_reads_are_answered_in_order(client):
    sent = [client.send(Command.REGION_READ, access(k % 200, 7, 4)) for k in range(600)]
    assert [client.receive().msg_id for _ in sent] == sent
