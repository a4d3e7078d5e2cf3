# SPDX-License-Identifier: MIT
"""A count as prices of the twin: a host preset and an IOMMU preset, in TOML.

Instructions become cycles by one assumption, cycles per instruction. What was counted is what code
executes; what hardware makes it wait for (an invalidation, a cache line of another CPU) is not, and
keeps its published price: what no count gives stands as in the presets that these are made from.
Each number says from which cells it comes, or that it is assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from driver.host import costs as host_costs
from emulator.iommu.model import costs as iommu_costs
from testbed.count.results import CountResult, CountRow, Fate, Mode
from testbed.errors import TestbedError
from testbed.report.writer import write_atomically
from testbed.scenario import Iommu

CPI = 1.0
"""Cycles per instruction, unless another is asked for: hot code of packet paths, few misses."""
HOST_BASE, IOMMU_BASE = "linux-2016", "vtd-strict-fast-iova"
"""Presets that give what is not counted; both for a clock of GHZ."""
GHZ = 3.0
STRICT = "-strict"
"""What the name of an IOMMU preset ends in."""
ALLOCATOR = ("page allocator", "locks, lists, counters")
MAPPING = ("IOMMU driver", "DMA API", "locks, lists, counters")
BLOCK_BUFFERS, BLOCK_PAGES, GROUP = 16, 8, 16
"""Buffers and pages of a block of ``order_fallback``; pages of a group of ``bulk_map``."""
BULKS = (1, 2, 4, 8, 16, 32, 64)
PER_100_BYTES = 12.5
"""Instructions."""
RING_OVER_STORE = 22.25 / 9.5
"""docs/costs.md: page_pool bench, ptr_ring path without its cache operation, over the fast path."""


Prices = dict[str, tuple[float | list[float], str]]
"""By ``table.key``: value and source."""


@dataclass(frozen=True, slots=True)
class Cells:
    """A count, asked for what prices are made of.

    Raises:
        TestbedError: a cell that is asked for was not counted.
    """

    result: CountResult

    def row(self, mode: Mode, fate: Fate, iommu: Iommu = "none") -> CountRow:
        """The cell."""
        found = self.result.row(mode, iommu, fate)
        if found is None:
            raise TestbedError(f"{mode}, {iommu}, {fate} was not counted: count every cell")
        return found

    def parts(self, names: tuple[str, ...], mode: Mode, fate: Fate, iommu: Iommu = "none") -> float:
        """Instructions of those parts of the kernel."""
        row = self.row(mode, fate, iommu)
        return sum(row.part(name).instructions for name in names)

    def allocator(self, mode: Mode) -> float:
        """Of page allocator and locks when packets are dropped, beyond what a poll has anyway."""
        return self.parts(ALLOCATOR, mode, "drop") - self.parts(ALLOCATOR, "page_pool", "drop")

    def iommu(self, names: tuple[str, ...], mode: Mode) -> float:
        """Of those parts under intel-strict, beyond those without an IOMMU."""
        strict = self.parts(names, mode, "drop", "intel-strict")
        return strict - self.parts(names, mode, "drop")

    def total(self, fate: Fate) -> float:
        """Instructions of a packet with page_pool, no IOMMU."""
        return self.row("page_pool", fate).instructions


def preset_name(result: CountResult) -> str:
    """``counted-6.12`` for a count of any 6.12 kernel."""
    version = re.match(r"\d+\.\d+", result.kernel_release)
    return f"counted-{version[0] if version else result.kernel_release}"


def host_preset(result: CountResult, cpi: float = CPI) -> str:
    """The text of ``driver/host/costs/<name>.toml``; ``cpi``: cycles per instruction.

    Raises:
        TestbedError: a cell that is needed was not counted.
    """
    cells = Cells(result)
    prices = _allocator(cells) | _pool(cells) | _stack(cells)
    cycles = {key: (_times(value, cpi), source) for key, (value, source) in prices.items()}
    what = "What the host's kernel executes, counted, as cycles"
    return _rewritten(host_costs.COSTS / f"{HOST_BASE}.toml", _about(result, cpi, what), cycles)


def iommu_preset(result: CountResult, cpi: float = CPI) -> str:
    """The text of ``emulator/iommu/model/costs/<name>-strict.toml``.

    Raises:
        TestbedError: a cell that is needed was not counted.
    """
    cells = Cells(result)
    pair = cells.iommu(MAPPING, "map_per_packet")
    block = cells.iommu(MAPPING, "order_fallback") * BLOCK_BUFFERS
    more = max(block - pair, 0.0) / (BLOCK_PAGES - 1)
    one = "map_per_packet, intel-strict less none, drop: half of IOMMU driver, DMA API, locks"
    rest = "order_fallback, intel-strict less none, drop: half of each page beyond the first"
    iova = "map_per_packet, intel-strict less none, drop: half of IOVA"
    prices: Prices = {
        "map.page_table_ns": (pair / 2, f"counted: {one}; caching mode announces a map as well"),
        "unmap.page_table_ns": (pair / 2, f"counted: {one}"),
        "iova.magazine_alloc_ns": (
            cells.iommu(("IOVA",), "map_per_packet") / 2,
            f"counted: {iova}",
        ),
        "iova.magazine_free_ns": (cells.iommu(("IOVA",), "map_per_packet") / 2, f"counted: {iova}"),
    }
    for table in ("map", "unmap"):
        prices[f"{table}.next_page_ns"] = (more / 2, f"counted: {rest}")
    for key in ("map.other_ns", "unmap.find_ns", "unmap.other_ns"):
        prices[key] = (0, "assumption: in page_table_ns, which is all that was counted")
    ns = {key: (_times(value, cpi / GHZ, 0), source) for key, (value, source) in prices.items()}
    what = "VT-d, strict, in caching mode: its driver's instructions, counted; waiting as published"
    return _rewritten(iommu_costs.COSTS / f"{IOMMU_BASE}.toml", _about(result, cpi, what), ns)


def _allocator(cells: Cells) -> Prices:
    single = cells.allocator("map_per_packet")
    block = cells.allocator("order_fallback") * BLOCK_BUFFERS
    per_call = (single - cells.allocator("bulk_map")) * GROUP / (GROUP - 1)
    less = "less page_pool, none, drop: page allocator, locks"
    between = "assumption: on the line from order 0 to order 3"
    bulk = (
        "map_per_packet, bulk_map, none, drop: 1 page and 16, else a part of a call and of a page"
    )
    return {
        "allocator.order_0": (single, f"counted: map_per_packet {less}"),
        "allocator.order_1": (single + (block - single) / 3, between),
        "allocator.order_2": (single + (block - single) * 2 / 3, between),
        "allocator.order_3": (block, f"counted: order_fallback {less}, times 16"),
        "allocator.bulk": ([single - per_call + per_call / n for n in BULKS], f"counted: {bulk}"),
        "allocator.debug_check": (0, "assumption: in the allocation, not counted apart"),
    }


def _pool(cells: Cells) -> Prices:
    store = cells.parts(("page_pool",), "page_pool", "drop") / 2
    call = cells.parts(("DMA API",), "map_per_packet", "drop") / 2
    sync = cells.parts(("DMA API",), "page_pool", "drop") / 2
    reference = cells.parts(("page allocator",), "half_page_flip", "deliver")
    copy = cells.parts(("copies",), "shadow_copy", "deliver")
    half = "counted: map_per_packet, none, drop: half of DMA API"
    ring = "assumption: not counted, as no page passed it; dearer than store_op as the bench says"
    return {
        "pool.store_op": (store, "counted: page_pool, none, drop: half of page_pool"),
        "pool.ring_op": (store * RING_OVER_STORE, ring),
        "pool.reference": (reference, "counted: half_page_flip, none, deliver: page allocator"),
        "dma.map_call": (call, half),
        "dma.unmap_call": (call, half),
        "dma.sync": (sync, "counted: page_pool, none, drop: half of DMA API; DMA is coherent"),
        "copy.call": (
            max(copy - 0.6 * PER_100_BYTES, 0.0),
            "counted: shadow_copy, none, deliver: copies, less 60 bytes",
        ),
        "copy.per_100_bytes": (PER_100_BYTES, "assumption: eight bytes for an instruction"),
    }


def _stack(cells: Cells) -> Prices:
    drop, deliver, forward = (cells.total(fate) for fate in ("drop", "deliver", "forward"))
    pool = cells.parts(("page_pool", "DMA API"), "page_pool", "drop")
    sends = cells.parts(("DMA API", "driver"), "page_pool", "forward")
    sends -= cells.parts(("DMA API", "driver"), "page_pool", "deliver")
    return {
        "stack.poll": (0, "assumption: in receive, as polls were full"),
        "stack.receive": (
            drop - pool,
            "counted: page_pool, none, drop: all but page_pool, DMA API",
        ),
        "stack.drop": (0, "assumption: in receive"),
        "stack.forward": (
            forward - drop - sends,
            "counted: page_pool, none, forward less drop less transmit",
        ),
        "stack.transmit": (
            sends,
            "counted: page_pool, none, forward less deliver: driver, DMA API",
        ),
        "stack.socket": (
            deliver - drop,
            "counted: page_pool, none, deliver less drop: to a packet handler, no socket",
        ),
    }


def write_presets(result: CountResult, name: str, cpi: float = CPI) -> list[Path]:
    """Both presets, where the twin finds them: ``name`` and ``name-strict``. Returns the files.

    Raises:
        TestbedError: a cell that is needed was not counted.
        ReportError: one of them cannot be written.
    """
    texts = {
        host_costs.COSTS / f"{name}.toml": host_preset(result, cpi),
        iommu_costs.COSTS / f"{name}{STRICT}.toml": iommu_preset(result, cpi),
    }
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)


def _about(result: CountResult, cpi: float, what: str) -> str:
    return (
        f"{what}. Linux {result.kernel_release}, QEMU {result.qemu_version}, frames of"
        f" {result.frame_bytes} B; assumed: {cpi:g} cycles per instruction."
    )


def _times(
    value: float | list[float], factor: float, digits: int | None = 1
) -> float | list[float]:
    """Rounded; a whole number where ``digits`` is 0."""
    if isinstance(value, list):
        return [round(each * factor, digits) for each in value]
    return round(value * factor, digits or None)


def _rewritten(base: Path, about: str, prices: Prices) -> str:
    """The preset ``base`` with other words and prices; each of ``prices`` must be in it."""
    lines, table, left = [], "", dict(prices)
    for line in base.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        key = f"{table}.{line.split(' ', 1)[0]}"
        if line.startswith("about"):
            lines.append(f'# Written by dmabed reprice.\nabout = "{about}"')
        elif key in left:
            value, source = left.pop(key)
            name = key.partition(".")[2]
            lines.append(f'{name} = {{ value = {value}, source = "{source}" }}')
        else:
            lines.append(line)
    assert not left, left
    return "\n".join(lines) + "\n"
