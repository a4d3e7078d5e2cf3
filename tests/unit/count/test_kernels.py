# SPDX-License-Identifier: MIT
"""Two kernels side by side: what is compared with what, and what is said of the difference."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import strict_json
from testbed.count.command import write_kernels
from testbed.count.kernels import changes, kernels_table
from testbed.count.results import CountResult
from testbed.report.table import report_console
from tests.unit.count.support import result, row
from vm import kernels
from vm.kernel import KernelTree

OLD = replace(
    result(
        row("page_pool", parts={"driver": (100.0, 0.0), "page_pool": (200.0, 1.0)}),
        row("bulk_map", parts={"driver": (50.0, 0.0)}),
    ),
    kernel_release="6.1.0",
)
NEW = result(
    row("page_pool", parts={"driver": (90.0, 0.0), "page_pool": (100.0, 0.0), "slab": (20.0, 0.0)}),
    row("page_pool", "intel-strict"),
    row("bulk_map", parts={"driver": (53.0, 0.0)}),
)


def test_cells_that_only_one_kernel_counted_are_compared():
    found = [(change.new.mode, change.new.iommu) for change in changes(OLD, NEW)]
    assert found == [("page_pool", "none"), ("bulk_map", "none")]


def test_largest_change_is_not_named_first_or_noise_is_named():
    pool, bulk = changes(OLD, NEW)
    assert pool.parts == (("page_pool", -100.0), ("slab", 20.0), ("driver", -10.0))
    assert bulk.parts == ()


def test_table_or_files_mix_up_old_and_new(tmp_path: Path):
    text = io.StringIO()
    report_console(text, 160).print(kernels_table(OLD, NEW))
    (line,) = [line for line in text.getvalue().splitlines() if "page_pool -100" in line]
    assert line.split()[3:8] == ["300", "210", "-30", "1.00", "0.00"]
    write_kernels(OLD, NEW, tmp_path)
    assert "From 6.1.0 to 6.12" in (tmp_path / "kernels-6.1.0.txt").read_text()
    read = strict_json.parse_json((tmp_path / "count-6.1.0.json").read_text())
    assert strict_json.decode(CountResult, read, "") == OLD


@pytest.mark.parametrize(
    ("release", "wanted"),
    [(("debian", "bookworm"), ["bookworm"]), (("debian", "sid"), []), (("fedora", ""), [])],
)
def test_kernel_is_looked_for_where_there_is_none(
    release: tuple[str, str], wanted: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked: list[str] = []

    def fetch(cache: Path, codename: str, suite: str, progress: object, entry: Path) -> KernelTree:
        asked.append(suite)
        assert entry.parent == cache
        return KernelTree(entry / "vmlinux", True, suite, None, None)

    monkeypatch.setattr(kernels, "host_release", lambda: release)
    monkeypatch.setattr(kernels, "debian_kernel", fetch)
    found = kernels.other_kernels(tmp_path, print)
    assert [kernel.release for kernel in found] == asked == wanted
