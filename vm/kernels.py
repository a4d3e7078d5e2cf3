# SPDX-License-Identifier: MIT
"""Kernels beside the one guests usually run, for a look at what changed between them.

Those of the host's own Debian release: only their build tools run with its C library.
"""

from pathlib import Path

from vm.apt import Progress, host_release
from vm.kernel import KernelTree, debian_kernel

#: By Debian release: suites whose cloud kernel is another than the one `vm.kernel` takes.
_OTHER_SUITES = {"bookworm": ("bookworm",)}


def other_kernels(cache: Path, progress: Progress) -> list[KernelTree]:
    """Those that can be had on this host, oldest first; fetched into the cache if needed.

    Raises:
        SetupError: one cannot be fetched.
    """
    distribution, codename = host_release()
    suites = _OTHER_SUITES.get(codename, ()) if distribution == "debian" else ()
    return [
        debian_kernel(cache, codename, suite, progress, cache / f"kernel-{codename}-suite-{suite}")
        for suite in suites
    ]
