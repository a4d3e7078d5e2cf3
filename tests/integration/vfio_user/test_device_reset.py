# SPDX-License-Identifier: MIT
"""DEVICE_RESET over a socket."""

from errno import EINVAL

import pytest

from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import RefusedError


def test_a_reset_reaches_the_device_and_leaves_the_mappings(client, device):
    client.dma_map(0, 4096)
    client.reset()
    assert device.calls[-1][0] == "reset"
    assert list(device.mappings) == [0]


def test_a_reset_with_a_payload_is_refused(client, device):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_RESET, b"\0")
    assert refused.value.errno == EINVAL
    assert device.calls == []
