# SPDX-License-Identifier: MIT
"""A device with a TLB of its own: told of an unmap before the ledger and the client hear of it."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.endpoint import Endpoint
from emulator.errors import DmabedError
from emulator.iommu.latency import LatencyModel
from emulator.iommu.mapping import IOVA_END
from emulator.ledger import Ledger
from emulator.pci.device import PciDevice

IOVA, PAGE = 0x100000, 4096


class Caching(PciDevice):
    """Notes what it was told to forget, and what the ledger thought was alive then."""

    has_tlb = True
    endpoint: Endpoint

    def __init__(self) -> None:
        self.told: list[tuple[Any, int, int]] = []
        self.fails = False

    def invalidate(self, ranges: Any) -> None:
        live = sum(1 for _ in self.endpoint.ledger.live.within(0, IOVA_END))
        self.told.append((list(ranges), live, len(self.endpoint.space)))
        if self.fails:
            raise DmabedError("no completion")


class Plain(Caching):
    has_tlb = False


def served(device: Caching) -> Endpoint:
    device.endpoint = Endpoint(device, "dut", Ledger(lambda: 0), LatencyModel(), lambda: 0)
    for page in range(3):
        device.endpoint.dma_map(IOVA + page * PAGE, PAGE, True, True, 0, None, 0)
    return device.endpoint


def unmap(endpoint: Endpoint, iova: int, size: int, everything: bool = False) -> None:
    endpoint.dma_unmap_begin(iova, size, everything, 0)
    endpoint.dma_unmap_finish(iova, size, everything, 0)


def test_invalidate_comes_before_the_page_table_or_after_the_ledger_changed():
    device = Caching()
    unmap(served(device), IOVA, PAGE)
    assert device.told == [([(IOVA, PAGE)], 3, 2)]


def test_unmapping_all_is_not_one_range_of_everything():
    device = Caching()
    unmap(served(device), 0, 0, everything=True)
    assert device.told == [([(0, IOVA_END)], 3, 0)]


def test_a_device_without_a_tlb_is_bothered_with_invalidates():
    device = Plain()
    unmap(served(device), IOVA, PAGE)
    assert not device.told


def test_an_invalidate_without_completion_is_answered_as_if_there_was_one():
    device = Caching()
    endpoint = served(device)
    device.fails = True
    with pytest.raises(DmabedError, match="no completion"):
        unmap(endpoint, IOVA, PAGE)
    assert sum(1 for _ in endpoint.ledger.live.within(IOVA, PAGE)) == 1
