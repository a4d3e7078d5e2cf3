# SPDX-License-Identifier: MIT
"""Which checkers a kernel has, what their files say, and how long such a kernel is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.accel import Acceleration
from vm.checker_files import judge_files, leaked
from vm.checkers import boot_arguments, can_fail, checkers_of, patience_of
from vm.fragments import DEBUG, GUEST, lacking, main, options
from vm.kernel import KernelTree
from vm.kernel_config import require_drivers
from vm.machine import IOMMUS, GuestConfig

TCG, KVM = Acceleration("tcg", "none here"), Acceleration("kvm", "")
LEAK = """\
unreferenced object 0xffff888001234000 (size 64):
  comm "insmod", pid 90, jiffies 4294940000
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 0):
    [<00000000>] __kmalloc_cache_noprof+0x1/0x2
    [<00000000>] nic_setup+0x10/0x20 [nic]
unreferenced object 0xffff888001235000 (size 128):
  backtrace (crc 0):
    kmalloc+0x1/0x2
    0xffffffffc0001000
"""


def tree(folder: Path, text: str) -> KernelTree:
    (folder / ".config").write_text(text)
    return KernelTree(folder / "vmlinux", True, "6.12.0-own", folder, folder)


def test_kernel_of_the_fragments_lacks_a_checker_or_cannot_be_a_guest(tmp_path: Path) -> None:
    kernel = tree(tmp_path, GUEST.read_text() + DEBUG.read_text())
    assert {"kasan", "dma-api", "lockdep", "kmemleak", "atomic-sleep"} <= checkers_of(kernel)
    assert can_fail(kernel)
    assert boot_arguments(kernel) == ["kasan_multi_shot"]
    for iommu in IOMMUS:
        require_drivers(kernel, GuestConfig(iommu=iommu))


def test_stock_kernel_passes_for_one_with_checkers(tmp_path: Path) -> None:
    kernel = tree(tmp_path, "# CONFIG_KASAN is not set\nCONFIG_HAVE_ARCH_KASAN=y\n")
    assert checkers_of(kernel) == frozenset()
    assert not can_fail(kernel)
    assert boot_arguments(kernel) == []
    assert patience_of(kernel, TCG) == 1


def test_slow_kernel_is_waited_for_no_longer_than_a_fast_one(tmp_path: Path) -> None:
    kernel = tree(tmp_path, DEBUG.read_text())
    assert patience_of(kernel, TCG) > 3
    assert patience_of(kernel, KVM) == 1


def test_checker_that_gave_up_passes_for_a_quiet_one() -> None:
    quiet = {"dma-api/error_count": "0", "dma-api/disabled": "N", "debug_locks": "1"}
    assert judge_files(quiet) == {"dma-api": (), "lockdep": ()}
    assert judge_files({}) == {}
    assert judge_files({**quiet, "dma-api/error_count": "2"}, excused=2) == judge_files(quiet)
    said = judge_files({**quiet, "dma-api/error_count": "3", "dma-api/disabled": "Y"})
    assert said["dma-api"][0] == "error_count is 3"
    assert "out of entries" in said["dma-api"][1]
    assert "lockdep is off" in judge_files({**quiet, "debug_locks": "0"})["lockdep"][0]


def test_leaked_object_loses_its_maker() -> None:
    assert leaked(LEAK) == (
        "unreferenced object (size 64) from __kmalloc_cache_noprof < nic_setup",
        "unreferenced object (size 128) from kmalloc < 0xffffffffc0001000",
    )
    assert leaked("") == ()


def test_fragment_that_is_not_in_effect_passes() -> None:
    fragment = "# a comment\nCONFIG_A=y\nCONFIG_KASAN=y\n# CONFIG_C is not set\nCONFIG_D=8\n"
    assert options(fragment) == {
        "CONFIG_A": "y",
        "CONFIG_KASAN": "y",
        "CONFIG_C": "n",
        "CONFIG_D": "8",
    }
    assert lacking(fragment, "CONFIG_A=y\nCONFIG_KASAN=y\nCONFIG_D=8\n") == []
    found = lacking(fragment, "CONFIG_A=m\n# CONFIG_KASAN is not set\nCONFIG_C=y\n")
    assert found == [
        "CONFIG_A is m, not y",
        "CONFIG_KASAN is n, not y; without it: no checker kasan, rule O-20",
        "CONFIG_C is y, not n",
        "CONFIG_D is n, not 8 (depends on what is off, or this kernel has no such option)",
    ]


def test_tree_without_what_was_asked_for_ends_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = GUEST.read_text() + DEBUG.read_text()
    tree(tmp_path, whole)
    assert main([str(tmp_path)]) == 0
    tree(tmp_path, whole.replace("CONFIG_DMA_API_DEBUG=y", ""))
    assert main([str(tmp_path)]) == 1
    assert "CONFIG_DMA_API_DEBUG is n" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 2
