# SPDX-License-Identifier: MIT
"""DEVICE_GET_INFO over a socket."""

from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import RefusedError


def test_a_pci_device_describes_itself(client):
    info = client.get_info()
    assert (info.argsz, info.num_regions, info.num_irqs) == (16, 9, 5)
    assert info.flags == wire.DeviceFlag.RESET | wire.DeviceFlag.PCI


def test_a_larger_argsz_is_answered_with_what_there_is(client):
    reply = client.request(Command.DEVICE_GET_INFO, wire.DEVICE_INFO.pack(4096, 0, 0, 0))
    assert len(reply.payload) == 16


@pytest.mark.parametrize(
    "payload", [b"", wire.DEVICE_INFO.pack(16, 0, 0, 0)[:-1], wire.DEVICE_INFO.pack(15, 0, 0, 0)]
)
def test_a_query_that_leaves_no_room_for_the_answer_is_refused(client, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_GET_INFO, payload)
    assert refused.value.errno == EINVAL
