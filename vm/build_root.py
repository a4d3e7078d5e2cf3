# SPDX-License-Identifier: MIT
"""A kernel whose build tools need a newer C library than the host's: a small root to build in.

Kernel, headers, compiler and the few programs kbuild calls are unpacked into one folder, and for
the compile step that folder is the root: mounts and root directory are those of that process
alone, and no privilege is needed where the system allows user namespaces.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vm.apt import PrivateApt, Progress
from vm.bzimage import extract_vmlinux
from vm.cache import provide
from vm.kernel import PACKAGES, KernelTree

_TOOLS = (
    *("gcc-14", "make", "bash", "dash", "coreutils", "sed", "grep", "mawk"),
    *("findutils", "diffutils", "perl-base", "libelf1t64", "bzip2"),
)
# Wanted by maintainer scripts or by an installed system, not by a compile step.
_UNWANTED = frozenset(
    (
        *("systemd", "udev", "dracut", "dracut-core", "dracut-install", "e2fsprogs", "mount"),
        *("kmod", "cpio", "debconf", "logsave", "openssl-provider-legacy"),
        *("libasan8", "liblsan0", "libtsan2", "libubsan1", "libhwasan0"),
    )
)
_ENTER = """\
root=$1 folder=$2
shift 2
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount --bind "$folder" "$root/mnt"
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin LC_ALL=C "$@"
"""
#: Where the folder to build is seen inside.
INSIDE = "/mnt"


def rooted_kernel(cache: Path, codename: str, suite: str, progress: Progress) -> KernelTree:
    """The cloud kernel of a suite of Debian's release `codename`, with its own root to build in.

    Raises:
        SetupError: it cannot be fetched.
    """
    entry = cache / f"kernel-root-{suite}"

    def fill(folder: Path) -> None:
        progress(f"setting up a kernel with headers and a compiler from {suite}")
        apt = PrivateApt(cache, codename, progress)
        apt.unpack([*PACKAGES["cloud"], *_TOOLS], lambda name: name not in _UNWANTED, suite, folder)
        (folder / "usr/bin/awk").symlink_to("mawk")
        for mount_point in ("dev", "proc", INSIDE[1:]):
            (folder / mount_point).mkdir(exist_ok=True)
        (image,) = folder.glob("usr/lib/modules/*/vmlinuz")
        (folder / "vmlinux").write_bytes(extract_vmlinux(image.read_bytes()))
        # It serves BTF only, which no test needs.
        for headers in folder.glob("usr/src/linux-headers-*-amd64"):
            (headers / "vmlinux").unlink(missing_ok=True)

    provide(entry, fill)
    (modules,) = entry.glob("usr/lib/modules/*")
    build = entry / "usr/src" / f"linux-headers-{modules.name}"
    return KernelTree(entry / "vmlinux", True, modules.name, modules, build, root=entry)


def entered(root: Path, folder: Path, command: Sequence[str]) -> list[str]:
    """`command`, to be run with `root` as its root and `folder` at `INSIDE`."""
    return [*_unshared(), "sh", "-ec", _ENTER, "sh", str(root), str(folder), *command]


def can_enter() -> bool:
    """True if this user may have mounts of his own."""
    try:
        done = subprocess.run([*_unshared(), "true"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _unshared() -> list[str]:
    return ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
