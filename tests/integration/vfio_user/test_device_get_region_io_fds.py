# SPDX-License-Identifier: MIT
"""DEVICE_GET_REGION_IO_FDS over a socket."""

from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import RefusedError


def test_no_region_has_sub_regions_with_descriptors(client):
    query = wire.REGION_IO_FDS.pack(4096, 0, 0, 0)
    reply = client.request(Command.DEVICE_GET_REGION_IO_FDS, query)
    assert reply.payload == wire.REGION_IO_FDS.pack(16, 0, 0, 0)
    assert reply.fds == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        wire.REGION_IO_FDS.pack(15, 0, 0, 0),
        wire.REGION_IO_FDS.pack(16, 1, 0, 0),
        wire.REGION_IO_FDS.pack(16, 0, 9, 0),
    ],
)
def test_a_malformed_query_is_refused(client, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_GET_REGION_IO_FDS, payload)
    assert refused.value.errno == EINVAL
