# SPDX-License-Identifier: MIT
"""Finding QEMU and kernels: what is accepted, what is refused, and in which words."""

import gzip
import stat
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.vm.test_bzimage import make_bzimage
from vm.accel import Acceleration, boot_sector, probe_acceleration
from vm.artifacts import Artifacts
from vm.errors import SetupError
from vm.kernel import (
    KernelTree,
    named_kernel,
    provide_kernel,
    relocate_headers,
    tree_release,
    unpacked_kernel,
)
from vm.module_build import diagnostics, source_files
from vm.qemu import Qemu, parse_version, probe, provide_qemu
from vm.toolchain import Toolchain

QEMU = """#!/bin/sh
case "$*" in
*--version*) echo "QEMU emulator version {version} (made up)";;
*help*) echo 'name "{device}", bus PCI';;
esac
"""


def make_qemu(path: Path, version: str, device: str = "vfio-user-pci") -> Path:
    path.write_text(QEMU.format(version=version, device=device))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_version_is_read_from_distributions_wording() -> None:
    assert parse_version("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)") == (11, 1, 3)
    assert parse_version("sh: not found") == ()


def test_new_enough_qemu_is_taken(tmp_path: Path) -> None:
    program = make_qemu(tmp_path / "qemu-system-x86_64", "10.1.1")
    found = provide_qemu(tmp_path, pytest.fail, {"QEMU": str(program)})
    assert found.command == (str(program),)
    assert found.version == (10, 1, 1)


@pytest.mark.parametrize(
    ("version", "device", "words"),
    [("7.2.0", "vfio-user-pci", "older"), ("10.2.0", "vfio-pci", "without vfio-user-pci")],
)
def test_unfit_qemu_is_refused(tmp_path: Path, version: str, device: str, words: str) -> None:
    program = make_qemu(tmp_path / "qemu", version, device)
    with pytest.raises(SetupError, match=words):
        probe((str(program),))


def test_named_qemu_that_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not a program"):
        provide_qemu(tmp_path, print, {"QEMU": str(tmp_path / "absent")})
    with pytest.raises(SetupError, match="no working QEMU"):
        probe(("/bin/true",))
    with pytest.raises(SetupError, match=r"QEMU=/bin/true: .*or leave QEMU= out"):
        provide_qemu(tmp_path, print, {"QEMU": "/bin/true"})


def make_tree(folder: Path, release: str) -> Path:
    (folder / "include/config").mkdir(parents=True)
    (folder / "include/config/kernel.release").write_text(f"{release}\n")
    (folder / "Makefile").touch()
    return folder


def make_image(path: Path, release: str) -> Path:
    path.write_bytes(b"\x7fELF" + bytes(100) + f"Linux version {release} (x)".encode() + b"\0")
    return path


def test_image_and_tree_of_one_release_are_taken(tmp_path: Path) -> None:
    build = make_tree(tmp_path / "build", "6.9.0-own")
    kernel = named_kernel(tmp_path, make_image(tmp_path / "vmlinux", "6.9.0-own"), build)
    assert (kernel.release, kernel.build, kernel.pvh) == ("6.9.0-own", build, False)
    assert tree_release(tmp_path) == ""


def test_image_and_tree_of_two_releases_are_refused(tmp_path: Path) -> None:
    build = make_tree(tmp_path / "build", "6.9.0-own")
    image = make_image(tmp_path / "vmlinux", "6.10.0")
    with pytest.raises(SetupError, match=r"6\.10\.0.*6\.9\.0-own"):
        named_kernel(tmp_path, image, build)
    with pytest.raises(SetupError, match="not a file"):
        named_kernel(tmp_path, tmp_path / "absent", build)
    with pytest.raises(SetupError, match="KDIR="):
        named_kernel(tmp_path, image, None)


def with_kernel(kernel: KernelTree) -> Artifacts:
    nothing: Any = None
    return Artifacts(Path(), nothing, kernel, nothing, nothing, nothing, 0)


def test_guest_that_is_to_wake_is_booted_from_an_elf_file_or_without_firmware() -> None:
    packed = KernelTree(Path("/vmlinux"), True, "6", None, None, packed=Path("/bzImage"))
    woken = with_kernel(packed).that_wakes().kernel
    assert (woken.image, woken.pvh, woken.release) == (Path("/bzImage"), False, "6")
    assert with_kernel(woken).that_wakes().kernel == woken
    with pytest.raises(SetupError, match=r"/vmlinux cannot wake.*KERNEL="):
        with_kernel(KernelTree(Path("/vmlinux"), True, "6", None, None)).that_wakes()


def test_image_that_is_booted_as_it_is_passes_for_what_it_was_taken_out_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_tree(tmp_path / "build", "6.9.0-own")
    image = make_image(tmp_path / "vmlinux", "6.9.0-own")
    assert named_kernel(tmp_path, image, build).packed is None
    monkeypatch.setattr("vm.kernel.has_pvh_entry", lambda _: True)
    packed = tmp_path / "bzImage"
    packed.write_bytes(make_bzimage(gzip.compress(image.read_bytes())))
    monkeypatch.setattr("vm.kernel.kernel_release", lambda _: "6.9.0-own")
    kernel = named_kernel(tmp_path / "cache", packed, build)
    assert (kernel.packed, kernel.pvh) == (packed, True)
    assert kernel.image != packed


def test_file_that_is_no_kernel_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no kernel")
    with pytest.raises(SetupError, match=r"KERNEL=.*text: .*release; give a bzImage"):
        named_kernel(tmp_path, tmp_path / "text", None)


@pytest.mark.parametrize("below", ["lib", "usr/lib"])
def test_modules_are_found_beside_the_boot_folder_of_the_image(tmp_path: Path, below: str) -> None:
    build = make_tree(tmp_path / "build", "6.9.0-own")
    (tmp_path / "boot").mkdir()
    image = make_image(tmp_path / "boot/vmlinuz", "6.9.0-own")
    assert named_kernel(tmp_path, image, build).modules == build
    modules = tmp_path / below / "modules/6.9.0-own"
    (modules / "kernel").mkdir(parents=True)
    assert named_kernel(tmp_path, image, build).modules == modules


class OneFlavour:
    """Stands for the private apt: unpacks a kernel that has the flavour of its package."""

    asked: ClassVar[list[str]] = []

    def __init__(self, *_: object) -> None:
        pass

    def unpack(self, names: list[str], _wanted: object, target: str, folder: Path) -> None:
        self.asked += [*names, target]
        flavour = names[0].removeprefix("linux-image-")
        (folder / "boot").mkdir()
        make_image(folder / f"boot/vmlinuz-6-{flavour}", f"6-{flavour}")
        (folder / f"lib/modules/6-{flavour}").mkdir(parents=True)


def test_flavours_of_debians_kernel_do_not_share_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vm.kernel.PrivateApt", OneFlavour)
    monkeypatch.setattr("vm.kernel.host_release", lambda: ("debian", "bookworm"))
    cloud = provide_kernel(tmp_path, lambda line: None, {})
    full = provide_kernel(tmp_path, lambda line: None, {}, "full")
    assert (cloud.release, full.release) == ("6-cloud-amd64", "6-amd64")
    assert cloud.image != full.image
    assert [kernel.packed.name for kernel in (cloud, full) if kernel.packed] == [
        "vmlinuz-6-cloud-amd64", "vmlinuz-6-amd64",
    ]  # fmt: skip
    assert OneFlavour.asked[3:] == [
        "linux-image-amd64",
        "linux-headers-amd64",
        "bookworm-backports",
    ]


def test_answer_about_kvm_is_kept_for_each_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vm.accel._probe", lambda _qemu, kernel: Acceleration("tcg", kernel.release)
    )
    qemu = Qemu(("/q",), (11, 0, 0), {})
    kernels = [KernelTree(Path(f"/k{name}"), True, name, None, None) for name in "ab"]
    for kernel in kernels:
        probe_acceleration(tmp_path, qemu, kernel, lambda line: None)
    again = [probe_acceleration(tmp_path, qemu, kernel, pytest.fail) for kernel in kernels]
    assert [answer.reason for answer in again] == ["a", "b"]
    (tmp_path / "accelerations.json").write_text("[]")
    assert probe_acceleration(tmp_path, qemu, kernels[0], print).reason == "a"


def test_headers_are_moved_below_the_cache(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("include /usr/src/linux-headers-6-common/Makefile\n")
    (tmp_path / "vmlinux").touch()
    relocate_headers(tmp_path, Path("/c/kernel"))
    assert (tmp_path / "Makefile").read_text() == (
        "include /c/kernel/usr/src/linux-headers-6-common/Makefile\n"
    )
    assert not (tmp_path / "vmlinux").exists()


def test_only_complaints_about_the_code_fail_a_build() -> None:
    output = """\
warning: the compiler differs from the one used to build the kernel
  The kernel was built by: gcc-12
  CC [M]  /x/nic.o
Skipping BTF generation for /x/nic.ko due to unavailability of vmlinux
/x/nic.c:5:6: warning: unused variable 'a' [-Wunused-variable]
WARNING: modpost: missing MODULE_DESCRIPTION() in /x/nic.o
/x/nic.o: warning: objtool: probe+0x1: unreachable instruction
"""
    assert len(diagnostics(output)) == 3


def test_leftovers_of_builds_are_no_sources(tmp_path: Path) -> None:
    for name in ("nic.c", "nic.h", "Kbuild", "nic.mod.c", "nic.o", "nic.ko", ".nic.o.cmd"):
        (tmp_path / name).touch()
    assert [path.name for path in source_files(tmp_path)] == ["Kbuild", "nic.c", "nic.h"]


def test_boot_sector_is_one_sector_with_its_signature() -> None:
    assert len(boot_sector()) == 512
    assert boot_sector()[-2:] == b"\x55\xaa"


def test_job_server_of_an_outer_make_reaches_a_build(monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", " -j2 --jobserver-auth=3,4")
    assert "MAKEFLAGS" not in Toolchain("cc").run(["env"]).stdout


@pytest.mark.parametrize("place", ["lib/modules", "usr/lib/modules"])
def test_modules_must_be_found_where_either_debian_release_keeps_them(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / place / "6.12-x").mkdir(parents=True)
    kernel = unpacked_kernel(tmp_path)
    assert kernel.release == "6.12-x"
    assert kernel.modules == tmp_path / place / "6.12-x"
