# SPDX-License-Identifier: MIT
"""DMA_UNMAP over a socket."""

from errno import EINVAL, ENOTSUP

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, DmaUnmapFlag
from tests.support.vfio_user_client import RefusedError, map_payload, unmap_payload

PAGE = 4096


def test_the_request_is_sent_back_and_the_mapping_is_gone(client, device):
    client.dma_map(PAGE, PAGE)
    assert client.dma_unmap(PAGE, PAGE) == unmap_payload(PAGE, PAGE)
    assert device.mappings == {}


def test_unmapping_everything_leaves_nothing(client, device):
    for page in range(0, 40, 2):
        client.dma_map(page * PAGE, PAGE)
    client.dma_unmap(0, 0, DmaUnmapFlag.ALL)
    assert device.mappings == {}


@pytest.mark.parametrize(
    ("iova", "size"), [(0, PAGE), (0x100000, 0xFFFFFFFF01100000), (0, (1 << 64) - PAGE)]
)
def test_sweeping_a_range_never_mapped_succeeds(client, device, iova, size):
    client.dma_unmap(iova, size)
    assert device.calls[-1][:3] == ("unmap finish", iova, size)


def test_an_unmap_that_cuts_a_mapping_is_refused_and_changes_nothing(client, device):
    client.dma_map(0, 4 * PAGE)
    with pytest.raises(RefusedError) as refused:
        client.dma_unmap(PAGE, PAGE)
    assert refused.value.errno == EINVAL
    assert device.mappings == {0: (4 * PAGE, None, 0)}


@pytest.mark.parametrize(
    ("payload", "errno"),
    [
        (b"", EINVAL),
        (unmap_payload(0, PAGE)[:-1], EINVAL),
        (unmap_payload(0, PAGE) + b"\0", EINVAL),
        (unmap_payload(0, 0), EINVAL),
        (unmap_payload(1, PAGE), EINVAL),
        (unmap_payload(0, 1), EINVAL),
        (unmap_payload((1 << 64) - PAGE, 2 * PAGE), EINVAL),
        (unmap_payload(0, PAGE, DmaUnmapFlag.ALL), EINVAL),
        (unmap_payload(PAGE, 0, DmaUnmapFlag.ALL), EINVAL),
        (unmap_payload(0, PAGE, 8), EINVAL),
        (unmap_payload(0, PAGE, DmaUnmapFlag.GET_DIRTY_BITMAP), ENOTSUP),
        (unmap_payload(0, PAGE, DmaUnmapFlag.VADDR), ENOTSUP),
        (wire.DMA_UNMAP.pack(23, 0, 0, PAGE), EINVAL),
    ],
)
def test_a_malformed_unmap_is_refused_and_never_reaches_the_device(client, device, payload, errno):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DMA_UNMAP, payload)
    assert refused.value.errno == errno
    assert device.calls == []


def test_an_unmap_with_a_descriptor_is_refused(client, guest_fd):
    with pytest.raises(RefusedError) as refused:
        client.request(Command.DMA_UNMAP, unmap_payload(0, PAGE), [guest_fd])
    assert refused.value.errno == EINVAL


def test_the_mapping_is_gone_before_the_delayed_reply_and_alive_until_then(client, device):
    client.dma_map(0, PAGE)
    device.unmap_ns = 20_000_000
    alive_when_asked = []
    unmap = client.send(Command.DMA_UNMAP, unmap_payload(0, PAGE))
    client.region_read(0, 0, 4)  # is not held up behind the invalidation
    alive_when_asked.append(0 in device.mappings)
    client.wait_reply(unmap)
    assert alive_when_asked == [True]
    assert device.mappings == {}


def test_pipelined_maps_and_unmaps_are_answered_in_order(client, device):
    device.map_ns = device.unmap_ns = 1_000_000
    sent = []
    for page in range(5):
        sent.append(client.send(Command.DMA_MAP, map_payload(page * PAGE, PAGE)))
        sent.append(client.send(Command.DMA_UNMAP, unmap_payload(page * PAGE, PAGE)))
    assert [client.receive().msg_id for _ in sent] == sent
