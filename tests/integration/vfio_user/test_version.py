# SPDX-License-Identifier: MIT
"""VERSION over a socket."""

import json
from errno import EINVAL, EPROTONOSUPPORT

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import QEMU_CAPABILITIES, RefusedError


def test_what_qemu_proposes_is_answered_in_a_shape_that_qemu_takes(raw_client):
    data = json.dumps({"capabilities": QEMU_CAPABILITIES}).encode() + b"\0"
    payload = wire.VERSION_DECL.build({"major": 0, "minor": 0, "data": data})
    reply = raw_client.request(Command.VERSION, payload).payload
    assert len(reply) <= len(payload)  # it receives into a buffer of the request's size
    version = wire.VERSION_DECL.parse(reply)
    assert (version.major, version.minor) == (0, 0)
    assert version.data.endswith(b"\0")
    agreed = json.loads(version.data[:-1])["capabilities"]
    assert agreed.keys() <= QEMU_CAPABILITIES.keys()
    assert agreed["max_dma_maps"] <= 65535
    assert agreed["max_msg_fds"] <= 16
    assert agreed["pgsizes"] & 4095 == 0
    assert "migration" not in agreed


def test_only_proposed_capabilities_come_back_and_never_larger(raw_client):
    agreed = raw_client.version({"max_data_xfer_size": 4096, "something_new": [1, 2]})
    assert agreed == {"max_data_xfer_size": 4096}


def test_version_without_data_is_answered_without_data(raw_client):
    assert raw_client.request(Command.VERSION, bytes(4)).payload == bytes(4)


@pytest.mark.parametrize(
    ("payload", "errno"),
    [
        (b"\x01\x00\x00\x00", EPROTONOSUPPORT),
        (b"\x00\x00", EINVAL),
        (b"", EINVAL),
        (bytes(4) + b"{}", EINVAL),
        (bytes(4) + b"{not json\0", EINVAL),
        (bytes(4) + b"\xff\xfe\0", EINVAL),
        (bytes(4) + b"[]\0", EINVAL),
        (bytes(4) + b'{"capabilities": 7}\0', EINVAL),
        (bytes(4) + b'{"capabilities": {"max_msg_fds": -1}}\0', EINVAL),
        (bytes(4) + b'{"capabilities": {"max_data_xfer_size": true}}\0', EINVAL),
        (bytes(4) + b'{"capabilities": {"max_data_xfer_size": 1.5}}\0', EINVAL),
        (bytes(4) + b'{"capabilities": {"pgsizes": 8192}}\0', EINVAL),
        (bytes(4) + b'{"capabilities": {"write_multiple": 1}}\0', EINVAL),
        (bytes(4) + b"[" * 100_000 + b"\0", EINVAL),
        (bytes(4) + b"9" * 100_000 + b"\0", EINVAL),
    ],
)
def test_a_handshake_that_cannot_work_gets_its_errno_and_is_closed(
    raw_client, device, payload, errno
):
    with pytest.raises(RefusedError) as refused:
        raw_client.request(Command.VERSION, payload)
    assert refused.value.errno == errno
    raw_client.wait_hangup()
    assert len(device.closed_reasons) == 1


@pytest.mark.parametrize("command", [*range(2, 20), 0, 0xFFFF])
def test_a_command_before_version_is_refused_and_closed(raw_client, device, command):
    with pytest.raises(RefusedError) as refused:
        raw_client.request(command, bytes(32))
    assert refused.value.errno == EINVAL
    raw_client.wait_hangup()
    assert device.calls == []


def test_a_second_version_is_refused_and_the_session_goes_on(client):
    with pytest.raises(RefusedError) as refused:
        client.version()
    assert refused.value.errno == EINVAL
    assert client.get_info().num_regions == 9
