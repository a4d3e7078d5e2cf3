# SPDX-License-Identifier: MIT
"""Provides a kernel image, its modules and the headers to build against.

Order: what the user names (KERNEL=, KDIR=), then the cache, which is filled from the host's Debian
archive, then, on other distributions, a kernel installed on the host together with its headers.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vm.apt import PrivateApt, Progress, host_release
from vm.bzimage import extract_vmlinux, has_pvh_entry, kernel_release
from vm.cache import provide
from vm.errors import SetupError
from vm.kmod import ModuleTree

Flavour: TypeAlias = Literal["cloud", "full"]
# The cloud kernel boots faster; the full one has the drivers of all hardware.  Both are builds of
# one source, so modules of one do not load into the other.
PACKAGES: dict[Flavour, tuple[str, str]] = {
    "cloud": ("linux-image-cloud-amd64", "linux-headers-cloud-amd64"),
    "full": ("linux-image-amd64", "linux-headers-amd64"),
}
_WANTED = re.compile(r"^linux-(image|headers|kbuild)-|^libelf1")
# Debian 12's own 6.1 predates the page_pool interfaces the driver uses.
_BACKPORTED = ("bookworm",)


@dataclass(frozen=True)
class KernelTree:
    """A bootable kernel.

    Attributes:
        image: what QEMU's `-kernel` takes: an ELF vmlinux with a PVH entry, or a bzImage.
        pvh: the image starts through its PVH entry, so the small qboot firmware will do.
        release: as `uname -r` prints it.
        modules: the folder its modules are in, or None.
        build: the tree out-of-tree modules are built in (KDIR), or None.
        libraries: folders the tree's own tools (objtool, modpost) need on their library path.
        root: the folder that is `/` to the tree's tools, or None: the host's; `vm.build_root`.
        packed: the bzImage that `image` was taken out of, or None.
    """

    image: Path
    pvh: bool
    release: str
    modules: Path | None
    build: Path | None
    libraries: tuple[Path, ...] = ()
    root: Path | None = None
    packed: Path | None = None

    def module_tree(self) -> ModuleTree:
        """The kernel's own modules."""
        return ModuleTree(self.modules)


def provide_kernel(
    cache: Path,
    progress: Progress,
    environ: Mapping[str, str] = os.environ,
    flavour: Flavour = "cloud",
) -> KernelTree:
    """Finds or fetches a kernel with headers; `flavour` says which of Debian's, if it is Debian's.

    Raises:
        SetupError: what the user named does not fit, or nothing is found and nothing can be
            fetched.
    """
    image, build = environ.get("KERNEL"), environ.get("KDIR")
    if image or build:
        return named_kernel(cache, Path(image) if image else None, Path(build) if build else None)
    distribution, codename = host_release()
    if distribution == "debian":
        return _debian_kernel(cache, codename, progress, flavour)
    return host_kernel(cache)


def _debian_kernel(cache: Path, codename: str, progress: Progress, flavour: Flavour) -> KernelTree:
    suite = f"{codename}-backports" if codename in _BACKPORTED else codename
    entry = cache / (f"kernel-{codename}" if flavour == "cloud" else f"kernel-{flavour}-{codename}")
    return debian_kernel(cache, codename, suite, progress, entry, flavour)


def debian_kernel(
    cache: Path,
    codename: str,
    suite: str,
    progress: Progress,
    entry: Path,
    flavour: Flavour = "cloud",
) -> KernelTree:
    """The kernel of a suite of Debian's release `codename`, unpacked in `entry`.

    Raises:
        SetupError: it cannot be fetched.
    """

    def fill(folder: Path) -> None:
        progress(f"setting up a kernel with headers ({PACKAGES[flavour][0]} of {suite})")
        apt = PrivateApt(cache, codename, progress)
        apt.unpack(PACKAGES[flavour], lambda name: bool(_WANTED.search(name)), suite, folder)
        (image,) = folder.glob("boot/vmlinuz-*")
        (folder / "vmlinux").write_bytes(extract_vmlinux(image.read_bytes()))
        for headers in folder.glob("usr/src/linux-headers-*-amd64"):
            relocate_headers(headers, entry)

    provide(entry, fill)
    return unpacked_kernel(entry)


def unpacked_kernel(entry: Path) -> KernelTree:
    """The kernel in a cache entry; Debian 12's packages keep modules in /lib, 13's in /usr/lib."""
    (modules,) = [*entry.glob("lib/modules/*"), *entry.glob("usr/lib/modules/*")]
    build = entry / "usr/src" / f"linux-headers-{modules.name}"
    libraries = (entry / "usr/lib/x86_64-linux-gnu",)
    packed = next(iter(entry.glob("boot/vmlinuz-*")), None)
    return KernelTree(
        entry / "vmlinux", True, modules.name, modules, build, libraries, packed=packed
    )


def relocate_headers(headers: Path, root: Path) -> None:
    """Makes a Debian headers tree usable below `root`.

    Its Makefile names an absolute path below /usr/src, which is moved below `root` too.
    The stripped vmlinux that comes along serves BTF only; without it modules need no pahole.
    """
    makefile = headers / "Makefile"
    makefile.write_text(
        re.sub(r"^(include\s+)(/usr/src/)", rf"\1{root}\2", makefile.read_text(), flags=re.M)
    )
    (headers / "vmlinux").unlink(missing_ok=True)


def named_kernel(cache: Path, image: Path | None, build: Path | None) -> KernelTree:
    """The kernel the user named by an image, a build tree, or both.

    Raises:
        SetupError: a path is wrong, or image and build tree are of different releases.
    """
    if image is None and build is not None:
        image = _image_in_tree(build)
    if image is None or not image.is_file():
        raise SetupError(f"KERNEL={image} is not a file: give a bzImage or an ELF vmlinux")
    contents, release = _read_image(image)
    if build is None:
        build = Path("/lib/modules") / release / "build"
    if not (build / "Makefile").is_file():
        raise SetupError(f"{build} is no kernel build tree for {image}: name one by KDIR=<folder>")
    if (built := tree_release(build)) != release:
        raise SetupError(
            f"KERNEL={image} is {release}, but KDIR={build} is {built}: they must match"
        )
    path, pvh = _bootable(cache, image, contents)
    modules = _modules_of(image, release, build)
    packed = image.absolute() if path != image.absolute() else None
    return KernelTree(path, pvh, release, modules, build.absolute(), packed=packed)


def _read_image(image: Path) -> tuple[bytes, str]:
    """Contents and release of an image."""
    try:
        contents = image.read_bytes()
        return contents, kernel_release(contents)
    except OSError as error:
        raise SetupError(f"KERNEL={image} cannot be read: {error.strerror}") from error
    except SetupError as error:
        raise SetupError(f"KERNEL={image}: {error}; give a bzImage or an ELF vmlinux") from error


def _modules_of(image: Path, release: str, build: Path) -> Path:
    """The kernel's own modules: installed, unpacked beside its boot folder, or never installed."""
    root = image.absolute().parent.parent
    folders = [base / "lib/modules" / release for base in (Path("/"), root, root / "usr")]
    return next((folder for folder in folders if (folder / "kernel").is_dir()), build)


def host_kernel(cache: Path) -> KernelTree:
    """The newest kernel installed on the host that has a readable image and headers.

    Raises:
        SetupError: there is none.
    """
    for build in sorted(Path("/lib/modules").glob("*/build"), reverse=True):
        release = build.parent.name
        for image in (build.parent / "vmlinuz", Path("/boot") / f"vmlinuz-{release}"):
            if os.access(image, os.R_OK) and (build / "Makefile").is_file():
                return named_kernel(cache, image, build)
    raise SetupError(
        "no kernel with headers on this host: install your distribution's kernel headers, or name"
        " KERNEL=<bzImage or vmlinux> KDIR=<kernel build tree>"
    )


def _image_in_tree(build: Path) -> Path:
    for candidate in ("arch/x86/boot/bzImage", "vmlinux"):
        if (build / candidate).is_file():
            return build / candidate
    raise SetupError(f"KDIR={build} holds no built kernel image: name one by KERNEL=<image>")


def tree_release(build: Path) -> str:
    """The release a build tree is for; empty if it was never configured."""
    stated = build / "include/config/kernel.release"
    return stated.read_text().strip() if stated.is_file() else ""


def _bootable(cache: Path, image: Path, contents: bytes) -> tuple[Path, bool]:
    """The image to boot: the vmlinux inside if that starts directly, else the image."""
    try:
        vmlinux = extract_vmlinux(contents)
    except SetupError:
        return image.absolute(), False
    if not has_pvh_entry(vmlinux):
        return image.absolute(), False
    if vmlinux is contents:
        return image.absolute(), True
    stat = image.stat()
    entry = cache / f"vmlinux-{stat.st_dev:x}-{stat.st_ino:x}-{stat.st_mtime_ns:x}"
    provide(entry, lambda folder: _write(folder / "vmlinux", vmlinux))
    return entry / "vmlinux", True


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
