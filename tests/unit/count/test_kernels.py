# SPDX-License-Identifier: MIT
"""Two kernels side by side: what is compared with what, and what is said of the difference."""

import io
import subprocess
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
from vm.artifacts import quiet
from vm.build_root import can_enter, entered
from vm.cache import cache_dir
from vm.initramfs import provide_busybox
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
    newest = replace(NEW, kernel_release="7.3.4+deb13")
    shown = write_kernels([NEW, newest, OLD], tmp_path)
    titles = [line for line in shown.splitlines() if line.startswith("From")]
    assert titles == ["From 6.1.0 to 6.12, per packet", "From 6.12 to 7.3.4+deb13, per packet"]
    assert (tmp_path / "kernels.txt").read_text() == shown
    read = strict_json.parse_json((tmp_path / "count-6.1.0.json").read_text())
    assert strict_json.decode(CountResult, read, "") == OLD


@pytest.mark.parametrize(
    ("release", "may_mount", "wanted"),
    [
        (("debian", "bookworm"), True, ["bookworm", "trixie-backports"]),
        (("debian", "bookworm"), False, ["bookworm"]),
        (("debian", "trixie"), True, ["trixie-backports"]),
        (("fedora", ""), True, []),
    ],
)
def test_kernel_is_looked_for_where_there_is_none(
    release: tuple[str, str],
    may_mount: bool,
    wanted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    asked: list[str] = []
    said: list[str] = []

    def fetch(cache: Path, codename: str, suite: str, *others: object) -> KernelTree:
        asked.append(suite)
        assert cache == tmp_path
        return KernelTree(cache / "vmlinux", True, suite, None, None)

    monkeypatch.setattr(kernels, "host_release", lambda: release)
    monkeypatch.setattr(kernels, "can_enter", lambda: may_mount)
    monkeypatch.setattr(kernels, "debian_kernel", fetch)
    monkeypatch.setattr(kernels, "rooted_kernel", fetch)
    found = kernels.other_kernels(tmp_path, said.append)
    assert [kernel.release for kernel in found] == asked == wanted
    assert bool(said) == ("trixie-backports" not in wanted)


def test_build_inside_a_root_sees_the_host_or_leaves_a_mount_behind(tmp_path: Path):
    """A root with nothing but a static program in it: what it sees, and what is left."""
    if not can_enter():
        pytest.skip("unshare(1) may not mount here: allow user namespaces, or run as root")
    busybox = provide_busybox(cache_dir(), quiet)
    root, folder = tmp_path / "root", tmp_path / "folder"
    for name in ("usr/bin", "dev", "mnt", "proc"):
        (root / name).mkdir(parents=True)
    folder.mkdir()
    for name in ("env", "sh"):
        (root / "usr/bin" / name).write_bytes(busybox.read_bytes())
        (root / "usr/bin" / name).chmod(0o755)
    command = entered(root, folder, ["sh", "-c", "echo /* $HOME > /mnt/seen; test -c /dev/null"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "seen").read_text() == "/dev /mnt /proc /usr\n"
    assert list((root / "mnt").iterdir()) == list((root / "dev").iterdir()) == []
