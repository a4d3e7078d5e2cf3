# SPDX-License-Identifier: MIT
"""Out-of-tree modules: built against the guest's kernel, loaded, and refused when they warn."""

import asyncio
from pathlib import Path

import pytest

from vm.artifacts import Artifacts
from vm.errors import BuildError, CommandFailed, GuestPanicked
from vm.guest import Guest

pytestmark = pytest.mark.vm

SOURCE = """\
#include <linux/module.h>

static int answer;
module_param(answer, int, 0444);

static int __init probe_init(void)
{
	pr_warn("probe: answer %%d\\n", answer);
	return answer ? 0 : -EINVAL;
}

static void __exit probe_exit(void)
{
	%s
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_DESCRIPTION("A module for tests");
MODULE_LICENSE("GPL");
"""


def write_module(folder: Path, body: str) -> Path:
    folder.mkdir()
    (folder / "probe.c").write_text(SOURCE % body)
    (folder / "Kbuild").write_text("obj-m := probe.o\n")
    return folder


def test_module_is_built_loaded_with_parameters_and_unloaded(
    artifacts: Artifacts, guest: Guest, runner: asyncio.Runner, tmp_path: Path
) -> None:
    source = write_module(tmp_path / "good", "")
    (module,) = artifacts.build_module(source)
    assert sorted(path.name for path in source.iterdir()) == ["Kbuild", "probe.c"]
    runner.run(guest.insmod(module, "answer=42"))
    assert runner.run(guest.run("cat /sys/module/probe/parameters/answer")).stdout == "42\n"
    runner.run(guest.rmmod("probe"))
    with pytest.raises(CommandFailed, match="Invalid argument"):
        runner.run(guest.insmod(module))
    assert guest.kernel_warnings() == []
    assert artifacts.build_module(source) == [module]


def test_splat_of_a_module_is_collected(
    artifacts: Artifacts, guest: Guest, runner: asyncio.Runner, tmp_path: Path
) -> None:
    source = write_module(tmp_path / "splat", "WARN_ON(1);")
    (module,) = artifacts.build_module(source)
    runner.run(guest.insmod(module, "answer=1"))
    runner.run(guest.rmmod("probe"))
    runner.run(guest.run("echo '<4>end of splat' >/dev/kmsg; sleep 0.1"))
    (warning,) = guest.kernel_warnings()
    assert "probe_exit" in warning


def test_oops_in_a_module_is_a_panic(
    artifacts: Artifacts, guest: Guest, runner: asyncio.Runner, tmp_path: Path
) -> None:
    source = write_module(tmp_path / "oops", "*(volatile int *)8 = 1;")
    (module,) = artifacts.build_module(source)
    runner.run(guest.insmod(module, "answer=1"))
    with pytest.raises(GuestPanicked, match="Fatal exception"):
        runner.run(guest.rmmod("probe"))
    spoken = ("NULL pointer", "general protection fault")  # the latter where KASAN looks first
    assert any(words in line for words in spoken for line in guest.kernel_warnings())


def test_warning_fails_the_build_and_is_shown(artifacts: Artifacts, tmp_path: Path) -> None:
    source = write_module(tmp_path / "warns", "int unused;")
    with pytest.raises(BuildError, match="unused variable"):
        artifacts.build_module(source)
