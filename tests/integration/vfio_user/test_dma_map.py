# SPDX-License-Identifier: MIT
"""DMA_MAP over a socket."""

import os
from errno import EACCES, EEXIST, EINVAL
from pathlib import Path

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from tests.support.vfio_user_client import RefusedError, map_payload, sealed_memfd, write_file

PAGE = 4096


def test_a_page_of_guest_memory_is_the_same_bytes_on_both_sides(client, device, guest_fd):
    client.dma_map(0x40000, PAGE, guest_fd, offset=3 * PAGE)
    backing = device.memory.attach(guest_fd)
    write_file(guest_fd, 3 * PAGE, b"from the guest")
    assert bytes(backing.array[3 * PAGE :][:14]) == b"from the guest"
    backing.array[3 * PAGE] = ord("F")
    assert os.pread(guest_fd, 4, 3 * PAGE) == b"From"
    assert device.mappings == {0x40000: (PAGE, 0, 3 * PAGE)}


def test_permissions_arrive_as_sent(client, device, guest_fd):
    client.dma_map(0, PAGE, guest_fd, flags=1)
    client.dma_map(PAGE, PAGE, guest_fd, flags=2)
    client.dma_map(2 * PAGE, PAGE, flags=3)
    assert [call[3:5] for call in device.calls] == [(True, False), (False, True), (True, True)]


def test_memory_without_a_descriptor_is_mapped_as_such(client, device):
    client.dma_map(0x1000, PAGE)
    assert device.mappings[0x1000] == (PAGE, None, 0)


def test_read_only_descriptor_serves_read_only_maps_only(client, guest_fd):
    read_only = os.open(f"/proc/self/fd/{guest_fd}", os.O_RDONLY)
    try:
        client.dma_map(0, PAGE, read_only, flags=1)
        with pytest.raises(RefusedError) as refused:
            client.dma_map(PAGE, PAGE, read_only, flags=3)
        assert refused.value.errno == EACCES
        client.dma_map(PAGE, PAGE, guest_fd, flags=3)
    finally:
        os.close(read_only)


@pytest.mark.parametrize(("iova", "size"), [(PAGE, PAGE), (0, 4 * PAGE), (2 * PAGE, PAGE)])
def test_mapping_over_a_mapping_is_refused_with_eexist(client, device, iova, size):
    client.dma_map(PAGE, 2 * PAGE)
    with pytest.raises(RefusedError) as refused:
        client.dma_map(iova, size)
    assert refused.value.errno == EEXIST
    assert list(device.mappings) == [PAGE]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        map_payload(0, PAGE)[:-1],
        map_payload(0, PAGE) + b"\0",
        map_payload(0, 0),
        map_payload(1, PAGE),
        map_payload(0, PAGE + 1),
        map_payload(0, PAGE, offset=1),
        map_payload(0, PAGE, flags=0),
        map_payload(0, PAGE, flags=4),
        map_payload((1 << 64) - PAGE, 2 * PAGE),
        map_payload(0, PAGE, offset=(1 << 63)),
        wire.DMA_MAP.pack(31, 3, 0, 0, PAGE),
    ],
)
def test_a_malformed_map_is_refused_and_never_reaches_the_device(client, device, guest_fd, payload):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DMA_MAP, payload, [guest_fd])
    assert refused.value.errno == EINVAL
    assert device.calls == []


def test_the_last_page_of_the_address_space_can_be_mapped(client, device):
    client.dma_map((1 << 64) - PAGE, PAGE)
    assert (1 << 64) - PAGE in device.mappings


def test_two_descriptors_with_a_map_are_refused_and_closed(client, guest_fd):
    with pytest.raises(RefusedError):
        client.request(Command.DMA_MAP, map_payload(0, PAGE), [guest_fd, guest_fd])


def test_a_map_beyond_the_end_of_the_file_is_refused(client, guest_fd):
    client.dma_map(0, 1 << 20, guest_fd)
    with pytest.raises(RefusedError) as refused:
        client.dma_map(1 << 20, PAGE, guest_fd, offset=1 << 20)
    assert refused.value.errno == EINVAL


def test_what_is_no_guest_memory_is_refused(client, tmp_path):
    pipe = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    empty = sealed_memfd(0)
    try:
        for fd in (*pipe, folder, empty):
            with pytest.raises(RefusedError) as refused:
                client.dma_map(0, PAGE, fd, flags=1)
            assert refused.value.errno == EINVAL
    finally:
        for fd in (*pipe, folder, empty):
            os.close(fd)


def test_many_maps_of_one_file_hold_one_descriptor(client, device, guest_fd):
    client.dma_map(0, PAGE, guest_fd)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for page in range(1, 200):
        client.dma_map(page * PAGE, PAGE, guest_fd, offset=page * PAGE)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(device.memory) == 1


def test_descriptors_stay_with_their_message_when_messages_are_glued(client, device, guest_fd):
    write = wire.REGION_ACCESS.pack(0, 0, 4) + b"abcd"
    for page in range(50):
        client.send(Command.REGION_WRITE, write, flags=wire.NO_REPLY)
        client.send(Command.DMA_MAP, map_payload(2 * page * PAGE, PAGE, page * PAGE), [guest_fd])
        last = client.send(Command.DMA_MAP, map_payload((2 * page + 1) * PAGE, PAGE))
    client.wait_reply(last)
    with_file = [iova for iova, (_, backing, _) in device.mappings.items() if backing is not None]
    assert with_file == [2 * page * PAGE for page in range(50)]
    assert len(device.mappings) == 100


def test_a_map_that_wants_no_reply_is_done_silently(client, device):
    client.send(Command.DMA_MAP, map_payload(0, PAGE), flags=wire.NO_REPLY)
    client.send(Command.DMA_MAP, map_payload(0, PAGE), flags=wire.NO_REPLY)
    client.get_info()
    assert list(device.mappings) == [0]
