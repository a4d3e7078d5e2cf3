# SPDX-License-Identifier: MIT
"""The twin's counts beside the kernel's: equal, or different for a stated reason."""

from dataclasses import replace
from typing import Any

import pytest

from testbed.count.against import QUANTITIES, UNEXPLAINED, cell, compare
from testbed.count.kept import KEPT, kept_json, load_count
from testbed.count.page import PAGE, counting_page
from testbed.count.results import FATES, MODES, CountResult, Fate, Mode, TwinRow
from testbed.count.run import COUNTED_IOMMUS
from testbed.count.table import count_text
from testbed.count.twin import twin_row
from testbed.errors import ResultsError
from testbed.scenario import Iommu
from tests.unit.count.support import result, row


def beside(
    mode: str, iommu: str = "none", fate: str = "deliver", twin: float = 1.0, **guest: Any
) -> CountResult:
    """A count of one cell, and a twin that counts ``twin`` of everything."""
    counted = row(mode, iommu, fate, **guest)
    same = TwinRow(mode, iommu, fate, *(twin,) * len(QUANTITIES))  # type: ignore[arg-type]
    return replace(result(counted), twin=(same,))


ONE = {"maps": 1.0, "unmaps": 1.0, "allocations": 1.0, "frees": 1.0, "parts": {"driver": (9, 1.0)}}


def test_equal_counts_have_a_reason():
    (found,) = compare(beside("map_per_packet", **ONE))
    assert found.reasons == ()
    assert [cell(found.pairs[name]) for name in QUANTITIES] == ["1"] * 5


@pytest.mark.parametrize("name", ["maps", "unmaps", "allocations", "frees"])
def test_difference_of_a_delivered_packet_is_excused(name: str):
    for more in (0.006, -0.006, 1.0):
        (found,) = compare(beside("map_per_packet", **{**ONE, name: 1.0 + more}))
        assert found.reasons == (UNEXPLAINED,)
        assert UNEXPLAINED in cell(found.pairs[name])
    assert UNEXPLAINED in count_text(beside("page_pool", **{**ONE, name: 2.0}))


def test_atomics_of_driver_pool_or_page_allocator_are_not_compared():
    for part in ("driver", "page_pool", "page allocator"):
        (found,) = compare(beside("page_pool", **{**ONE, "parts": {part: (9, 2.0)}}))
        assert found.reasons == (UNEXPLAINED,)
    parts = {"driver": (9, 1.0), "stack": (9, 1.0), "locks, lists, counters": (9, 3.0)}
    (found,) = compare(beside("page_pool", **{**ONE, "parts": parts}))
    assert found.reasons == ()


@pytest.mark.parametrize(("maps", "reason"), [(1.0, ""), (2.0, "a"), (2.1, "?"), (1.9, "?")])
def test_transmission_adds_other_than_one_map(maps: float, reason: str):
    (found,) = compare(beside("shadow_copy", fate="forward", **{**ONE, "maps": maps}))
    assert "".join(found.reasons) == reason


@pytest.mark.parametrize(("more", "reason"), [(0.004, ""), (0.19, "c"), (0.21, "?"), (-0.01, "?")])
def test_forwarding_hides_an_allocation_for_every_packet(more: float, reason: str):
    counts = {**ONE, "maps": 2.0, "unmaps": 2.0, "allocations": 1.0 + more}
    (found,) = compare(beside("map_per_packet", fate="forward", **counts))
    assert {key for key in found.reasons if key != "a"} == set(reason)


@pytest.mark.parametrize("more", [0.01, 0.04, 0.06])
def test_stray_pages_are_excused_without_virtio_or_in_any_number(more: float):
    counts = {**ONE, "frees": 1.0 + more}
    known = ("d",) if more < 0.05 else (UNEXPLAINED,)
    assert compare(beside("bulk_map", "virtio-lazy", **counts))[0].reasons == known
    assert compare(beside("bulk_map", "intel-strict", **counts))[0].reasons == (UNEXPLAINED,)


@pytest.mark.parametrize("more", [0.01, 0.125, 0.17])
def test_new_pages_while_packets_are_sent_are_excused_for_any_strategy(more: float):
    counts = {**ONE, "maps": 2.0 + more, "unmaps": 2.0}
    known = ("a", "e") if more < 0.16 else ("?", "a")
    for mode in ("order0_recycle", "page_pool"):
        assert compare(beside(mode, fate="forward", **counts))[0].reasons == known
    assert compare(beside("shadow_copy", fate="forward", **counts))[0].reasons == ("?", "a")


def test_one_call_for_sixteen_addresses_is_excused_behind_an_iommu_or_for_others():
    counts = {**ONE, "maps": 1 / 16, "unmaps": 1 / 16}
    assert compare(beside("bulk_map", **counts))[0].reasons == ("b",)
    assert compare(beside("bulk_map", "intel-strict", **counts))[0].reasons == (UNEXPLAINED,)
    assert compare(beside("map_per_packet", **counts))[0].reasons == (UNEXPLAINED,)
    counts = {**ONE, "maps": 17 / 16, "unmaps": 17 / 16}
    assert compare(beside("bulk_map", fate="forward", **counts))[0].reasons == ("a", "b")


# the count that comes with the project


@pytest.fixture(scope="module")
def kept() -> CountResult:
    return load_count()


def test_kept_count_lacks_a_cell(kept: CountResult):
    cells = {(mode, iommu, fate) for mode in MODES for iommu in COUNTED_IOMMUS for fate in FATES}
    assert {(row.mode, row.iommu, row.fate) for row in kept.rows} == cells
    assert {(twin.mode, twin.iommu, twin.fate) for twin in kept.twin} == cells


def test_kernel_counts_what_the_twin_does_not_and_nobody_says_why(kept: CountResult):
    for each in compare(kept):
        assert UNEXPLAINED not in each.reasons, (each.mode, each.fate)
        if each.fate != "forward" and each.mode != "bulk_map":
            assert each.reasons == (), (each.mode, each.fate)


@pytest.mark.parametrize("iommu", ["none", "virtio-lazy", "intel-strict"])
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("mode", MODES)
def test_twin_counts_other_than_when_the_count_was_kept(
    mode: Mode, fate: Fate, iommu: Iommu, kept: CountResult
):
    """Run ``python -m testbed.count.kept`` on a new count if the twin is right."""
    twin = next(t for t in kept.twin if (t.mode, t.iommu, t.fate) == (mode, iommu, fate))
    now = twin_row(mode, iommu, fate)
    for name in QUANTITIES:
        assert getattr(twin, name) == pytest.approx(getattr(now, name), abs=1e-4), name


def test_tables_of_the_page_are_not_those_of_the_kept_count(kept: CountResult):
    """Run ``python -m testbed.count.kept docs/counted.json`` if this fails."""
    text = PAGE.read_text(encoding="utf-8")
    assert counting_page(text, kept) == text
    more = replace(kept.rows[0], instructions=kept.rows[0].instructions * 2)
    assert counting_page(text, replace(kept, rows=(more, *kept.rows[1:]))) != text


def test_kept_count_was_edited_or_says_when_it_was_made(kept: CountResult):
    assert kept_json(kept) == KEPT.read_text(encoding="utf-8")
    assert kept.created == ""


def test_count_that_is_not_there_is_read(tmp_path: Any):
    with pytest.raises(ResultsError, match="dmabed count"):
        load_count(tmp_path / "count.json")
