# SPDX-License-Identifier: MIT
"""Which part of the kernel a function belongs to, and which functions are called what.

By module, then by name: the kernel's names begin with what they are part of. The first pattern
that fits wins. Helpers that every part calls (locks, list checks) are a part of their own, since a
block of code does not know its caller; what nothing fits is "other", and a test keeps it small.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from testbed.count.dump import Counts, Dump
from testbed.count.symbols import Symbol, SymbolTable

#: In the order of the figures' stacks, from the driver outwards.
PARTS = (
    "driver",
    "page_pool",
    "DMA API",
    "IOVA",
    "IOMMU driver",
    "page allocator",
    "slab",
    "copies",
    "stack",
    "locks, lists, counters",
    "consumer",
    "other",
)
_MODULES = {
    "dmabed_nic": "driver",
    "dmabed_sink": "consumer",
    "virtio_iommu": "IOMMU driver",
}
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("page_pool", r"_*(page_pool|napi_pp_put|net_mp|netmem|net_devmem)"),
    ("IOVA", r"_*(alloc_iova|free_iova|iova_|fq_|remove_iova|rb_(insert|erase)|find_iova)"),
    ("DMA API", r"_*(dma_(map|unmap|sync|alloc|free|direct|set|max|mmap)|iommu_dma|swiotlb|sg_)"),
    (
        "DMA API",
        r"_*(iommu_get_dma_domain|dev_is_untrusted|debug_dma|finalise_sg|(amd_)?cc_platform|force_dma)",
    ),
    (
        "IOMMU driver",
        r"_*(iommu_|intel_iommu|qi_|dma_pte|pfn_to_dma_pte|cache_tag|domain_|viommu|virtqueue|"
        r"vring|virtio|vp_|detach_buf|interval_tree|calculate_psi|clflush|mapping_to|dma_free_pte|"
        r"iowrite|ioread|(un)?map_range|vtdss|pt_iommu|make_range|gather_range|pt_compute)",
    ),
    (
        "page allocator",
        r"_*(alloc_(pages|frozen|fresh)|get_page_from_freelist|rmqueue|free_(unref|pcp|one|pages|"
        r"frozen|tail)|page_frag|put_page|release_pages|post_alloc|prep_(new|compound)|folios?_|"
        r"zone_watermark|expand|find_suitable|policy_|compaction|page_counter|"
        r"clear_page|kernel_init_pages|pfn_|get_pfnblock|cond_accept_mem|"
        r"page_cache_release|mem_cgroup|uncharge|lru_|nr_to_section|should_fail_alloc)",
    ),
    (
        "slab",
        r"_*(kmem_cache|slab_|kfree$|kmalloc|build_detached|put_cpu_partial|get_(any_)?partial|"
        r"allocate_slab|new_slab|setup_object|shuffle_freelist|next_freelist|refill_obj|"
        r"deactivate_slab|discard_slab|free_slab|cmpxchg_double|free_to_partial|unfreeze)",
    ),
    ("copies", r"_*(memcpy|memmove|memset|copy_|rep_movs)"),
    (
        "stack",
        r"_*(skb|build_skb|alloc_skb|napi|netif|receive_skb|eth_|dev_|sch_|qdisc|pfifo|validate_xmit"
        r"|netdev|gro_|harmonize|sock_|kfree_skb|consume_skb|deliver_|qdisc|dql_|bpf_|ip_|nf_|"
        r"dst_|net_|passthru)",
    ),
    (
        "locks, lists, counters",
        r"_*(raw_|rcu|mutex|list_(add|del)|local_bh|ktime|read_tsc|tsc|preempt|queued_spin|"
        r"native_queued|pv_|x86_|sw_|static_call|cond_resched|rb_|irq_|xas?_|"
        r"mod_.*(page|zone|node)_?state|(dec|inc)_(zone|node)|count_vm)",
    ),
)
_COMPILED = tuple((part, re.compile(pattern)) for part, pattern in _PATTERNS)

#: Functions whose calls are counted. Kernels name them differently, and newer ones call one
#: through another: of each group's lines the first name that the kernel has is counted.
CALLS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "maps": (("dma_map_phys", "dma_map_page_attrs"), ("__dma_map_sg_attrs",)),
    "unmaps": (("dma_unmap_phys", "dma_unmap_page_attrs"), ("dma_unmap_sg_attrs",)),
    "allocations": (
        ("__alloc_frozen_pages_noprof", "__alloc_pages_noprof", "__alloc_pages"),
        ("alloc_pages_bulk_noprof", "__alloc_pages_bulk"),
    ),
    "frees": (
        ("__free_frozen_pages", "free_frozen_pages", "free_unref_page"),
        ("free_unref_folios", "free_unref_page_list"),
    ),
}


def counted_functions(symbols: SymbolTable) -> dict[int, str]:
    """The group of :data:`CALLS` by the address of each function that is counted in this kernel."""
    found: dict[int, str] = {}
    for group, lines in CALLS.items():
        for names in lines:
            known = (symbols.addresses(name) for name in names)
            found |= dict.fromkeys(next(filter(None, known), []), group)
    return found


def part_of(symbol: Symbol) -> str:
    """The part of :data:`PARTS` that a function belongs to."""
    if symbol.module in _MODULES:
        return _MODULES[symbol.module]
    for part, pattern in _COMPILED:
        if pattern.match(symbol.name):
            return part
    return "other"


@dataclass(frozen=True, slots=True)
class Attribution:
    """A dump by symbol, by part and by group of called functions.

    by_symbol: keyed by (name, module). calls: how often functions of a group were entered.
    """

    by_symbol: Mapping[tuple[str, str], Counts]
    by_part: Mapping[str, Counts]
    calls: Mapping[str, int]


def attribute(dumps: Iterable[Dump], symbols: SymbolTable) -> Attribution:
    """Adds up ``dumps``. A block belongs to the function it begins in."""
    by_symbol: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
    by_part: defaultdict[str, Counts] = defaultdict(Counts)
    calls = dict.fromkeys(CALLS, 0)
    counted = counted_functions(symbols)
    for dump in dumps:
        for block in dump.blocks:
            symbol = symbols.at(block.pc)
            by_symbol[symbol.name, symbol.module] += block.counts
            by_part[part_of(symbol)] += block.counts
            if block.pc in counted:
                calls[counted[block.pc]] += block.entries
    return Attribution(dict(by_symbol), dict(by_part), calls)
