# SPDX-License-Identifier: MIT
"""Presets: every number has a row or says it is assumed; what is wrong is refused with its line."""

import re
from pathlib import Path

import pytest

from emulator.iommu.model.costs import COSTS, cost_names, load_costs, parse_costs
from emulator.iommu.model.invalidation import LazyInvalidation, StrictInvalidation
from emulator.iommu.model.walker import Calibration
from emulator.iommu.preset import PresetError

ROWS = (Path(__file__).parents[3] / "docs" / "costs.md").read_text(encoding="utf-8")
NUMBER = re.compile(r'value = (\d+), source = "costs\.md: ([^"]+)"')
STRICT = (COSTS / "vtd-strict.toml").read_text(encoding="utf-8")
ISSUE_NAMES = {
    "passthrough",
    "vtd-strict",
    "vtd-lazy",
    "vtd-strict-fast-iova",
    "vtd-lazy-fast-iova",
    "smmu-like",
    "power-tce",
    "power-direct-window",
}


def test_all_presets_are_there():
    assert set(cost_names()) >= ISSUE_NAMES
    with pytest.raises(PresetError, match=r"there are .*passthrough, power-direct-window"):
        load_costs("vtd")


@pytest.mark.parametrize("name", cost_names())
def test_each_number_is_that_of_the_row_it_names(name):
    assert load_costs(name).name == name
    for value, row in NUMBER.findall((COSTS / f"{name}.toml").read_text(encoding="utf-8")):
        (line,) = [line for line in ROWS.splitlines() if line.startswith(f"| {row} |")]
        assert line.split("|")[3].strip() == value, row


@pytest.mark.parametrize("name", cost_names())
def test_no_preset_mixes_the_two_calibrations_of_walks(name):
    costs = load_costs(name)
    families = {
        source.split(": ")[1].split(",")[0]
        for key, source in costs.sources.items()
        if key.startswith("walk.") and source.startswith("costs.md")
    }
    assert len(families) <= 1
    assert costs.walk is None or families <= {costs.walk.calibration.value}


def test_presets_make_the_parts_they_name():
    strict, lazy = load_costs("vtd-strict"), load_costs("vtd-lazy-fast-iova")
    assert isinstance(strict.make_invalidation(2), StrictInvalidation)
    assert isinstance(lazy.make_invalidation(2), LazyInvalidation)
    for costs, tree_allocs in ((strict, 4), (lazy, 2)):
        allocator = costs.make_allocator(1)
        for _ in range(2):
            allocator.free(0, allocator.allocate(0, 1, 2))
        assert allocator.counts.tree_allocs == tree_allocs
    none = load_costs("passthrough")
    assert none.make_invalidation(1) is none.make_caches() is none.make_tce_table() is None
    fs = load_costs("vtd-strict-fs").walk
    assert fs is not None and fs.calibration is Calibration.FS


def cpu_ns(name):
    """An unmap and a map of one page, with the strict invalidation if there is one."""
    costs = load_costs(name)
    iova = costs.iova
    fast = costs.allocator.value == "magazines"
    alloc = iova.magazine_alloc_ns if fast else iova.tree_alloc_ns
    free = iova.magazine_free_ns if fast else iova.tree_free_ns
    wait = costs.sync_ns if costs.invalidation.value == "strict" else costs.queue_ns
    return costs.map_ns + costs.unmap_ns + alloc + free + wait


def test_sums_are_those_of_the_published_table():
    cycles = {
        "vtd-strict": 4618 + 2999,
        "vtd-strict-fast-iova": 727 + 3067,
        "vtd-lazy": 2251 + 1137,
        "vtd-lazy-fast-iova": 727 + 1240,
    }
    for name, sum_ in cycles.items():
        assert cpu_ns(name) == pytest.approx(sum_ / 3.1, abs=4)


def test_improved_allocator_and_lazy_invalidation_each_make_it_cheaper():
    names = ["passthrough", "vtd-lazy-fast-iova", "vtd-strict-fast-iova", "vtd-strict"]
    prices = [cpu_ns(name) for name in names]
    assert prices == sorted(prices) and prices[0] == 0
    assert prices[2] - prices[1] == pytest.approx(load_costs(names[2]).sync_ns, rel=0.2)


def changed(old, new):
    assert old in STRICT
    return STRICT.replace(old, new)


def without(key):
    return re.sub(rf"(?m)^{key} = .*\n", "", STRICT, count=1)


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        (changed("sync_ns = { value = 6", "sync_ns = { value = -6"), "sync_ns", "sync_ns is -686"),
        (changed("sync_ns = { value = 686", "sync_ns = { value = 6.5"), "sync_ns", "whole number"),
        (changed("inflight = ", "outflight = "), "outflight", "unknown key 'outflight'"),
        (changed("[iotlb]", "[iotbl]"), r"\[iotbl", "unknown key 'iotbl'"),
        (without("inflight"), r"\[walk", "needs inflight"),
        (without("translation"), "", "translation is None"),
        (
            re.sub(r'(find_ns = .*)source = "[^"]*"', r'\1source = "a book"', STRICT),
            "find_ns",
            "source",
        ),
        (re.sub(r"(find_ns = .*), source = .*}", r"\1 }", STRICT), "find_ns", "needs find_ns"),
        (
            changed(": pcie-bench, over", ": F&S, over"),
            "parallelism",
            "another",
        ),
        (changed('"pcie-bench"', '"both"'), "calibration", "must be one of"),
        (
            changed("lelism = { value = 5", "lelism = { value = 0"),
            r"\[walk",
            "at least 1",
        ),
        (changed("ways = { value = 0", "ways = { value = 3"), r"\[iotlb", "divide evenly"),
        (STRICT + "\n[tce]\n", r"\[tce", "with translation 'page-tables'"),
        (changed('"tree"', '"bitmap"'), "allocator", "'bitmap' with translation 'page-tables'"),
        (without("next_page_ns"), r"\[map", "needs next_page_ns"),
        (changed('"strict"', '"stric"'), "invalidation_mode", "allowed: none, strict"),
        (STRICT + "\nx ==\n", "x ==", "line"),
    ],
)
def test_wrong_preset_is_refused_with_file_and_line(text, at, message):
    number = next(
        (n for n, line in enumerate(text.splitlines(), 1) if at and re.match(at, line)), 1
    )
    with pytest.raises(PresetError, match=re.escape(message)) as refusal:
        parse_costs(text, "x.toml", "x")
    assert str(refusal.value).startswith(f"x.toml:{number}: ")
