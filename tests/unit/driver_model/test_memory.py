# SPDX-License-Identifier: MIT
"""What the in-process host offers beside single pages: joined ranges and copies."""

import numpy as np

from driver.model.inprocess import Machine
from emulator.nic.config import NicConfig
from pool.interface import Direction
from pool.ports import CopyPages, RangeDma, ScatterDma
from tests.unit.driver_model.support import Silent, mac


def make():
    machine = Machine()
    return machine, machine.add_device(NicConfig(mac=mac(0)), Silent())


def test_scattered_pages_appear_one_behind_the_other():
    _, host = make()
    pfns = np.array([900, 40, 512])
    iova = host.dma.map_scattered(pfns, Direction.FROM_DEVICE)
    places = [host.space.find(iova + at).offset >> 12 for at in (0, 4096, 8192)]
    assert places == pfns.tolist()
    host.dma.unmap_scattered(iova, 3)
    assert list(host.space) == []
    assert host.dma.map_scattered(pfns, Direction.FROM_DEVICE) == iova  # the range is free again


def test_a_range_that_is_refused_midway_leaves_no_mapping_and_no_address_behind():
    _, host = make()
    host.space.max_mappings = 2
    assert host.dma.map_scattered(np.arange(600, 603), Direction.FROM_DEVICE) is None
    assert list(host.space) == []
    host.space.max_mappings = 3
    first = host.dma.map_scattered(np.arange(600, 603), Direction.FROM_DEVICE)
    assert first == (1 << 32) - 3 * 4096


def test_copies_move_bytes_and_nothing_beside_them():
    machine, host = make()
    host.memory[5 * 4096 : 5 * 4096 + 4] = [1, 2, 3, 4]
    machine.pages.copy_bytes(np.array([5 * 4096]), np.array([9 * 4096 + 64]), np.array([3]))
    assert host.memory[9 * 4096 + 63 : 9 * 4096 + 68].tolist() == [0, 1, 2, 3, 0]


def test_the_host_has_every_optional_port():
    machine, host = make()
    assert isinstance(host.dma, RangeDma)
    assert isinstance(host.dma, ScatterDma)
    assert isinstance(machine.pages, CopyPages)
