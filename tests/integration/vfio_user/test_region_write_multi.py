# SPDX-License-Identifier: MIT
"""REGION_WRITE_MULTI over a socket."""

from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import RefusedError
from tests.support.vfio_user_device import BAR0_SIZE


def multi(*writes: tuple[int, int, int, bytes], count: int | None = None) -> bytes:
    number = len(writes) if count is None else count
    return wire.WRITE_MULTI_COUNT.pack(number) + b"".join(
        wire.WRITE_ONE.pack(*write) for write in writes
    )


def test_coalesced_writes_are_done_in_order_with_their_own_sizes(client, device):
    payload = multi((0, 0, 4, b"abcdXXXX"), (2, 0, 1, b"Z"), (8, 0, 8, b"12345678"))
    reply = client.request(Command.REGION_WRITE_MULTI, payload).payload
    assert reply == wire.WRITE_MULTI_COUNT.pack(3)
    assert bytes(device.bar0[:16]) == b"abZd\0\0\0\x0012345678"


def test_the_most_that_qemu_sends_without_waiting_arrives(client, device):
    writes = [(4 * k, 0, 4, k.to_bytes(8, "little")) for k in range(200)]
    client.send(Command.REGION_WRITE_MULTI, multi(*writes), flags=wire.NO_REPLY)
    assert client.region_read(0, 4 * 199, 4) == (199).to_bytes(4, "little")
    assert len(device.calls) == 200


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(7),
        multi((0, 0, 4, b""), count=2),
        multi((0, 0, 4, b""), count=0),
        multi((0, 0, 4, b""), count=(1 << 64) - 1),
        multi((0, 0, 4, b"abcd"), (0, 0, 9, b"")),
        multi((0, 0, 4, b"abcd"), (BAR0_SIZE, 0, 1, b"")),
        multi((0, 0, 4, b"abcd"), (0, 9, 1, b"")),
    ],
)
def test_nothing_is_written_if_one_of_the_writes_is_wrong(client, device, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.REGION_WRITE_MULTI, payload)
    assert refused.value.errno == EINVAL
    assert device.calls == []
