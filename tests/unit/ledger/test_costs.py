# SPDX-License-Identifier: MIT
"""What the hot paths cost, through address space and ledger together: figures, no verdict."""

import numpy as np
import pytest

from emulator.frames import FrameBatch
from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger

PAGE = 4096
BASE = 0xF0000000


class FakeMemory:
    def __init__(self):
        self.array = np.zeros(32 << 20, np.uint8)
        self.index = 0


@pytest.fixture
def rig():
    device = Ledger(lambda: 0).device("nic0")
    device.gate_changed(0, True)
    space, memory = AddressSpace("nic0"), FakeMemory()
    for i in range(4096):
        page = i * 2039 % 8192
        device.mapped(0, space.map(BASE + i * PAGE, PAGE, memory, page * PAGE, True, True, 0))
    return space, device, memory, SpaceDma(space, device, DmaGate(True))


def test_cost_of_map_and_unmap(benchmark, rig):
    space, device, memory, _ = rig

    def pair():
        device.mapped(0, space.map(PAGE, PAGE, memory, 0, True, True, 0))
        device.unmap_requested(0, PAGE, PAGE)
        device.unmapped(0, space.unmap(PAGE, PAGE, 0))

    benchmark.pedantic(pair, rounds=10, iterations=500)
    assert len(space) == device.live.count == 4096


@pytest.mark.parametrize("length", [60, 1514])
@pytest.mark.parametrize("what", ["scatter", "gather"])
def test_cost_of_a_batch_of_64(benchmark, rig, what, length):
    dma = rig[3]
    iovas = (BASE + np.random.default_rng(1).permutation(4096)[:64] * PAGE).astype(np.uint64)
    lengths = np.full(64, length)
    frames = FrameBatch(np.ones(64 * length, np.uint8), np.arange(64) * length, lengths)
    args = (iovas, frames) if what == "scatter" else (iovas, lengths)
    result = benchmark.pedantic(getattr(dma, what), args=args, rounds=10, iterations=200)
    assert (result if what == "scatter" else result[1]).all()
