# SPDX-License-Identifier: MIT
"""DEVICE_GET_REGION_INFO over a socket."""

import mmap
import os
from errno import EINVAL

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, PciRegion, RegionFlag
from tests.support.vfio_user_client import RefusedError
from tests.support.vfio_user_device import BAR0_SIZE, BAR2_SIZE


def test_a_plain_region_comes_without_descriptor_and_capabilities(client):
    reply, fds = client.get_region_info(PciRegion.BAR0)
    assert fds == []
    assert reply.sparse is None
    assert (reply.info.size, reply.info.argsz, reply.info.cap_offset) == (BAR0_SIZE, 32, 0)
    assert reply.info.flags == RegionFlag.READ | RegionFlag.WRITE


def test_a_mappable_region_comes_with_a_descriptor_that_shows_it(client, device):
    reply, fds = client.get_region_info(PciRegion.BAR4)
    assert reply.info.flags & RegionFlag.MMAP
    assert not reply.info.flags & RegionFlag.CAPS
    with mmap.mmap(fds[0], reply.info.size, offset=reply.info.offset) as mapped:
        mapped[0] = 0x5A
    assert os.pread(device.bar2_fd, 1, 4096) == b"\x5a"
    os.close(fds[0])


def test_a_partly_mappable_region_lists_its_areas(client):
    reply, fds = client.get_region_info(PciRegion.BAR2)
    os.close(fds[0])
    assert reply.info.size == BAR2_SIZE
    assert reply.info.cap_offset == 32
    assert (reply.sparse.id, reply.sparse.version, reply.sparse.next) == (1, 1, 0)
    assert [(area.offset, area.size) for area in reply.sparse.areas] == [(0, 4096), (8192, 4096)]


def test_without_room_for_capabilities_the_size_needed_is_told(client):
    query = wire.REGION_INFO.pack(32, 0, PciRegion.BAR2, 0, 0, 0)
    reply = client.request(Command.DEVICE_GET_REGION_INFO, query)
    os.close(reply.fds[0])
    assert len(reply.payload) == 32  # QEMU receives into no more than argsz
    info = wire.REGION_INFO_DECL.parse(reply.payload)
    assert info.argsz == 32 + 16 + 2 * 16
    assert 32 <= info.cap_offset <= info.argsz  # QEMU checks before it tries again


def test_a_region_that_is_not_there_has_no_bytes(client):
    assert client.get_region_info(PciRegion.VGA)[0].info.size == 0


def test_a_client_that_takes_no_descriptors_is_sent_none(raw_client):
    raw_client.version({"max_msg_fds": 0})
    reply, fds = raw_client.get_region_info(PciRegion.BAR2)
    assert fds == []
    assert not reply.info.flags & (RegionFlag.MMAP | RegionFlag.CAPS)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        wire.REGION_INFO.pack(32, 0, 0, 0, 0, 0)[:-1],
        wire.REGION_INFO.pack(31, 0, 0, 0, 0, 0),
        wire.REGION_INFO.pack(32, 0, 9, 0, 0, 0),
        wire.REGION_INFO.pack(32, 0, 0xFFFFFFFF, 0, 0, 0),
    ],
)
def test_a_malformed_query_is_refused(client, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DEVICE_GET_REGION_INFO, payload)
    assert refused.value.errno == EINVAL
