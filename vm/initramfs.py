# SPDX-License-Identifier: MIT
"""Puts the guest's file system together: busybox, the agent as PID 1, kernel modules."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.apt import PrivateApt, Progress, host_release
from vm.cache import provide
from vm.cpio import CpioArchive
from vm.errors import SetupError
from vm.guest_tools import add_tools
from vm.kernel import KernelTree
from vm.kmod import without_signature
from vm.module_build import digest

# Part of the cache key: changed when the archive is put together in another way.
_LAYOUT = "3"
_FOLDERS = ("dev", "proc", "sys", "tmp", "root", "etc", "mnt", "var/log", "var/run")


@dataclass(frozen=True)
class GuestPrograms:
    """What runs in the guest: a static busybox, the agent, a folder from `provide_tools`."""

    busybox: Path
    agent: Path
    tools: Path


def provide_busybox(
    cache: Path, progress: Progress, environ: Mapping[str, str] = os.environ
) -> Path:
    """Finds or fetches a static busybox: $BUSYBOX, the host's own if static, the cache.

    Raises:
        SetupError: there is none and none can be fetched.
    """
    for chosen in (environ.get("BUSYBOX"), shutil.which("busybox")):
        if chosen and (found := shutil.which(chosen)) and is_static(Path(found)):
            return Path(found)
    distribution, codename = host_release()
    if distribution != "debian":
        raise SetupError(
            "no static busybox on this host: install busybox-static, or name one by BUSYBOX="
        )
    entry = cache / f"busybox-{codename}"

    def fill(folder: Path) -> None:
        progress("setting up busybox")
        apt = PrivateApt(cache, codename, progress)
        apt.unpack(["busybox-static"], lambda n: n == "busybox-static", codename, folder)

    provide(entry, fill)
    return next(
        path for path in (entry / "usr/bin/busybox", entry / "bin/busybox") if path.exists()
    )


def is_static(program: Path) -> bool:
    """True for an ELF program that names no dynamic loader."""
    data = program.read_bytes()
    return data.startswith(b"\x7fELF") and b"/ld-linux" not in data and b"/ld-musl" not in data


def applets(busybox: Path) -> list[str]:
    """Paths (without leading slash) under which busybox wants to be called."""
    done = subprocess.run(
        [str(busybox), "--list-full"], capture_output=True, text=True, check=False, timeout=30
    )
    names = re.findall(r"^[\w./\[-]+$", done.stdout, re.M)
    if done.returncode or not names:
        raise SetupError(f"{busybox} does not list its applets")
    return names


def build_archive(kernel: KernelTree, programs: GuestPrograms, modules: Sequence[str]) -> bytes:
    """The guest's file system; `modules` (those the kernel has as such) are loaded at boot."""
    archive = CpioArchive()
    for folder in _FOLDERS:
        archive.folder(folder)
    # The kernel opens the console for PID 1 before anything is mounted.
    archive.device("dev/console", 5, 1)
    archive.file("init", programs.agent.read_bytes(), 0o755)
    archive.file("bin/busybox", programs.busybox.read_bytes(), 0o755)
    for applet in applets(programs.busybox):
        if applet not in ("bin/busybox", "sbin/modprobe"):
            archive.symlink(applet, "/bin/busybox")
    archive.symlink("bin/genl", "/init")
    add_tools(archive, programs.tools)
    archive.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")
    archive.file("etc/hosts", b"127.0.0.1 localhost\n")
    _add_modules(archive, kernel, modules)
    return archive.finish()


def _add_modules(archive: CpioArchive, kernel: KernelTree, names: Sequence[str]) -> None:
    """Adds modules with those they need, and the list the agent loads them by."""
    tree = kernel.module_tree()
    order = tree.with_dependencies(names)
    for name in order:
        archive.file(module_path(name), without_signature(tree.read(name)))
    archive.file("etc/modules", "".join(f"/{module_path(name)}\n" for name in order).encode())


def module_path(name: str) -> str:
    """Where a module lies in the guest, without leading slash."""
    return f"lib/modules/{name.replace('-', '_')}.ko"


def provide_initramfs(
    cache: Path,
    kernel: KernelTree,
    programs: GuestPrograms,
    modules: Sequence[str],
) -> Path:
    """The initramfs for a kernel and the modules to load, made once per combination."""
    files = (kernel.image, programs.busybox, programs.agent, programs.tools)
    stamps = [_LAYOUT, *(f"{p}:{p.stat().st_mtime_ns}" for p in files)]
    key = digest(word.encode() for word in [*stamps, str(kernel.modules), *modules])
    entry = cache / "initramfs" / key

    def fill(folder: Path) -> None:
        (folder / "initramfs.cpio").write_bytes(build_archive(kernel, programs, modules))

    provide(entry, fill)
    return entry / "initramfs.cpio"
