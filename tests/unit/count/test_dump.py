# SPDX-License-Identifier: MIT
"""The plugin's text, the guest's symbols, and what parts of the kernel are made of them."""

from pathlib import Path

import pytest

from testbed.count.dump import Block, Counts, DumpError, DumpReader, parse_dumps
from testbed.count.parts import PARTS, attribute, part_of
from testbed.count.symbols import Symbol, parse_kallsyms
from testbed.errors import TestbedError

KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81000100 T dma_map_page_attrs
ffffffff81000180 t _raw_spin_lock
ffffffff81000180 t __alias_of_it
ffffffff81000200 D some_data
ffffffffc0000000 t dmabed_rx_poll\t[dmabed_nic]
"""
DUMP = """\
dump 7
vcpu 0 3 1 10 1 2 3 160 6 33 24
vcpu 1 0 0 0 0 0 0 0 0 0 0
block ffffffffc0000000 0 5 100 2 20 10
block ffffffff81000100 0 4 40 0 10 10
block ffffffff81000190 0 2 10 3 1 1
end
"""


def test_a_line_is_misread():
    (dump,) = parse_dumps(DUMP)
    assert (dump.polls, dump.interrupts) == (3, 1)
    assert dump.in_interrupts == Counts(10, 1, 2, 3)
    assert dump.blocks[1] == Block(0xFFFFFFFF81000100, 0, 4, Counts(40, 0, 10, 10))
    assert dump.total == Counts(150, 5, 31, 21)
    assert [d.polls for d in parse_dumps(DUMP + "busy\n" + DUMP)] == [3, 3]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("end\n", "", "no end"),
        ("dump 7\n", "", "line 1.*out of place"),
        ("0 5 100", "0 5 101", "add up to"),
        ("vcpu 0", "busy\nvcpu 0", "line 2: not understood"),
        ("block ffffffff81000100 0 4 40", "block ffffffff81000100 0 4", "line 5: not understood"),
        ("block ffffffff81000190", "block nowhere", "line 6: not understood"),
        ("vcpu 1", "cpu 1", "line 3: not understood"),
    ],
)
def test_damaged_counts_are_believed(old: str, new: str, said: str):
    assert old in DUMP
    with pytest.raises(DumpError, match=said):
        parse_dumps(DUMP.replace(old, new))


def test_address_goes_to_the_wrong_function():
    table = parse_kallsyms(KALLSYMS)
    assert table.at(0xFFFFFFFF810001F0).name == "_raw_spin_lock"
    assert table.at(0xFFFFFFFF81000250).name == "_raw_spin_lock"  # data is no function
    assert table.at(0xFFFFFFFFC0000010) == Symbol(
        0xFFFFFFFFC0000000, "dmabed_rx_poll", "dmabed_nic"
    )
    assert table.at(0x1000).name == "?"
    assert table.addresses("dma_map_page_attrs") == [0xFFFFFFFF81000100]


def test_hidden_addresses_are_taken_for_addresses():
    with pytest.raises(TestbedError, match="kptr_restrict"):
        parse_kallsyms("0000000000000000 T _stext\n")


def test_parts_or_symbols_do_not_add_up_to_the_total():
    (dump,) = parse_dumps(DUMP)
    found = attribute([dump, dump], parse_kallsyms(KALLSYMS))
    twice = dump.total + dump.total
    assert sum(found.by_part.values(), Counts()) == twice
    assert sum(found.by_symbol.values(), Counts()) == twice
    assert found.by_part["driver"] == Counts(200, 4, 40, 20)
    assert found.by_part["locks, lists, counters"].atomics == 6
    assert found.calls == {"maps": 8, "unmaps": 0, "allocations": 0, "frees": 0}


def test_call_through_another_name_is_counted_twice():
    newer = KALLSYMS + "ffffffff81000190 T dma_map_phys\n"
    (dump,) = parse_dumps(DUMP)
    assert attribute([dump], parse_kallsyms(newer)).calls["maps"] == 2


@pytest.mark.parametrize(
    ("name", "module", "part"),
    [
        ("dmabed_rx_poll", "dmabed_nic", "driver"),
        ("sink_receive_list", "dmabed_sink", "consumer"),
        ("viommu_map_pages", "virtio_iommu", "IOMMU driver"),
        ("page_pool_put_unrefed_netmem", "", "page_pool"),
        ("iommu_dma_map_page", "", "DMA API"),
        ("dma_pte_clear_level", "", "IOMMU driver"),
        ("iommu_map", "", "IOMMU driver"),
        ("alloc_iova_fast", "", "IOVA"),
        ("__alloc_pages_noprof", "", "page allocator"),
        ("page_frag_free", "", "page allocator"),
        ("kmem_cache_free_bulk.part.0", "", "slab"),
        ("__netif_receive_skb_core.constprop.0", "", "stack"),
        ("_raw_spin_lock_irqsave", "", "locks, lists, counters"),
        ("__list_add_valid_or_report", "", "locks, lists, counters"),
        ("memcpy_orig", "", "copies"),
        ("do_sys_open", "", "other"),
    ],
)
def test_function_is_put_into_the_wrong_part(name: str, module: str, part: str):
    assert part_of(Symbol(0, name, module)) == part
    assert part in PARTS


def test_reader_misses_a_dump_or_reads_one_twice(tmp_path: Path):
    path = tmp_path / "counts"
    path.write_text(DUMP)
    reader = DumpReader(path)
    assert [dump.polls for dump in reader.read()] == [3]
    assert reader.read() == []
    with path.open("a") as file:
        file.write("busy\n" + DUMP + DUMP.replace("vcpu 0 3", "vcpu 0 4"))
    assert [dump.polls for dump in reader.read()] == [3, 4]
