# SPDX-License-Identifier: MIT
"""Kernels beside the one guests usually run, for a look at what changed between them.

Those of the host's own Debian release whose build tools run on the host, and the newest of Debian
13's backports, built in a root of its own.
"""

from pathlib import Path

from vm.apt import Progress, host_release
from vm.build_root import can_enter, rooted_kernel
from vm.kernel import KernelTree, debian_kernel

#: By Debian release: suites whose cloud kernel is another than the one `vm.kernel` takes.
_OTHER_SUITES = {"bookworm": ("bookworm",)}
_NEWEST = ("trixie", "trixie-backports")


def other_kernels(cache: Path, progress: Progress) -> list[KernelTree]:
    """Those that can be had on this host; fetched into the cache if needed.

    Raises:
        SetupError: one cannot be fetched.
    """
    distribution, codename = host_release()
    if distribution != "debian":
        progress("no other kernel: they come from Debian's archive, and this host is not Debian")
        return []
    found = [
        debian_kernel(cache, codename, suite, progress, cache / f"kernel-{codename}-suite-{suite}")
        for suite in _OTHER_SUITES.get(codename, ())
    ]
    if can_enter():
        found.append(rooted_kernel(cache, *_NEWEST, progress))
    else:
        progress("no newer kernel: its compile step needs unshare(1) to be allowed to mount")
    return found
