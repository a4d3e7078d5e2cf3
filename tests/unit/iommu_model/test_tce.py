# SPDX-License-Identifier: MIT
"""Power: calls for each map and unmap, the ceiling they share, and the window that needs none."""

import numpy as np
import pytest

from emulator.iommu.model.contention import SerialServer
from emulator.iommu.model.costs import load_costs
from emulator.iommu.model.direct_window import DirectWindow
from emulator.iommu.model.errors import ModelError, WindowError
from emulator.iommu.model.tce import TceCosts, TceTable

COSTS = TceCosts(put_ns=1000, indirect_ns=1500, stuff_ns=800, entry_ns=10)


def pages(*counts):
    return np.array(counts, np.int64)


@pytest.mark.parametrize(("size", "calls"), [(1, 1), (2, 1), (512, 1), (513, 2), (1024, 2)])
def test_calls_for_a_map_and_an_unmap_are_those_of_the_platform(size, calls):
    table = TceTable(COSTS)
    table.map(0, pages(size))
    counts = table.counts
    assert (counts.put_calls, counts.indirect_calls) == ((1, 0) if size == 1 else (0, calls))
    table.unmap(0, pages(size))
    assert counts.stuff_calls == calls and counts.entries == 2 * size


def test_single_entry_calls_cost_one_call_for_each_page():
    table = TceTable(TceCosts(1000, 1500, 800, 10, entries_per_call=1))
    assert table.map(7, pages(4, 1)) == 7 + 5000 and table.counts.calls == 5
    assert table.unmap(0, pages(4, 1)) == 5 * 810


def test_one_call_for_many_pages_is_priced_as_one_call_and_its_entries():
    assert TceTable(COSTS).map(0, pages(64, 1)) == 1500 + 640 + 1000


def test_ceiling_holds_for_all_cpus_together():
    hypervisor, done = SerialServer(), []
    for _ in range(8):
        table = TceTable(TceCosts(1000, 1000, 1000, 0, ceiling_per_s=1_000_000), hypervisor)
        done.append(table.map(0, np.ones(100, np.int64)))
    assert done == [100_000 * n for n in range(1, 9)]
    free = TceTable(TceCosts(1000, 1000, 1000, 0))
    assert free.map(0, np.ones(100, np.int64)) == 100_000


def test_preset_makes_a_million_updates_a_second():
    table = load_costs("power-tce").make_tce_table()
    assert table is not None
    assert table.map(0, np.ones(1000, np.int64)) == 1_000_000


def test_no_pages_is_refused_and_so_is_a_list_longer_than_its_page():
    for operation in (TceTable(COSTS).map, TceTable(COSTS).unmap):
        with pytest.raises(ModelError, match="0 pages"):
            operation(0, pages(3, 0))
    with pytest.raises(ModelError, match="513"):
        TceCosts(1, 1, 1, 1, entries_per_call=513)


def test_direct_window_is_entered_once_costs_nothing_after_and_exposes_everything():
    window, table = DirectWindow(1 << 30), TceTable(COSTS)
    assert window.open(0, table) == 1500 + 64 * 10
    calls = table.counts.calls
    addresses = np.array([0, 4096, (1 << 30) - 1])
    iovas = window.map(addresses)
    assert (iovas - (1 << 59) == addresses).all()
    window.unmap(iovas)
    assert (window.maps, window.unmaps, table.counts.calls) == (3, 3, calls)
    assert window.exposed_bytes == 1 << 30


def test_window_refuses_what_it_does_not_hold():
    with pytest.raises(WindowError, match="outside"):
        DirectWindow(4096).map(np.array([4096]))
    for wrong in ({"page_shift": 13}, {"base": 4096}, {"memory_bytes": 0}):
        with pytest.raises(WindowError):
            DirectWindow(**{"memory_bytes": 1 << 30, **wrong})
