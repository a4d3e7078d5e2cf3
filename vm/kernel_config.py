# SPDX-License-Identifier: MIT
"""Says whether a kernel has what a guest needs, before it is booted in vain.

A kernel without the driver of its IOMMU boots all the same, only without translation: what is
measured then has nothing to do with what was asked for.
"""

import re
from collections.abc import Iterable

from vm.errors import SetupError
from vm.kernel import Flavour, KernelTree
from vm.machine import GuestConfig, Iommu

#: Must be built in.
_BUILT_IN = (
    "CONFIG_MODULES",
    "CONFIG_BLK_DEV_INITRD",
    "CONFIG_DEVTMPFS",
    "CONFIG_TMPFS",
    "CONFIG_SERIAL_8250_CONSOLE",
    "CONFIG_PCI_MSI",
    "CONFIG_PAGE_POOL",
)
#: May be built in or a module: the option, and the module it makes.
_DRIVERS = {"CONFIG_VIRTIO_PCI": "virtio_pci", "CONFIG_VIRTIO_CONSOLE": "virtio_console"}
_IOMMU_DRIVER = {"CONFIG_VIRTIO_IOMMU": "virtio_iommu"}
_VENDORS = {"intel": "CONFIG_INTEL_IOMMU", "amd": "CONFIG_AMD_IOMMU"}
_OPTION = re.compile(r"^(CONFIG_\w+)=([ym])$", re.M)


def flavour_for(iommus: Iterable[Iommu]) -> Flavour:
    """Which of Debian's kernels can drive all of them: the cloud kernel has no AMD IOMMU driver."""
    return "full" if any(iommu.startswith("amd") for iommu in iommus) else "cloud"


def require_drivers(kernel: KernelTree, guest: GuestConfig) -> None:
    """Compares the configuration of a kernel's build tree with what `guest` needs.

    A tree without a `.config` is trusted.

    Raises:
        SetupError: an option is off, or its module is nowhere; all of them are named.
    """
    options = kernel_options(kernel)
    if options is None:
        return
    if problems := [*_off(options, guest), *_absent(options, kernel, guest)]:
        raise SetupError(
            f"kernel {kernel.release} cannot run a guest with IOMMU {guest.iommu}: "
            + "; ".join(problems)
            + ". vm/config/guest.config has all that a guest needs; docs/debug-kernel.md says how"
        )


def kernel_options(kernel: KernelTree) -> dict[str, str] | None:
    """Options that are on, `CONFIG_X` to `y` or `m`; None: the kernel's tree does not tell."""
    config = kernel.build / ".config" if kernel.build else None
    if config is None or not config.is_file():
        return None
    return dict(_OPTION.findall(config.read_text(errors="replace")))


def _drivers(guest: GuestConfig) -> dict[str, str]:
    return {**_DRIVERS, **(_IOMMU_DRIVER if guest.iommu.startswith("virtio") else {})}


def _off(options: dict[str, str], guest: GuestConfig) -> list[str]:
    vendor = guest.iommu.partition("-")[0]
    built_in = [*_BUILT_IN, *([_VENDORS[vendor]] if vendor in _VENDORS else [])]
    lacking = [name for name in built_in if options.get(name) != "y"]
    either = [name for name in _drivers(guest) if name not in options]
    return [f"{name} must be y" for name in lacking] + [f"{name} is off" for name in either]


def _absent(options: dict[str, str], kernel: KernelTree, guest: GuestConfig) -> list[str]:
    tree = kernel.module_tree()
    gone = [
        module
        for name, module in _drivers(guest).items()
        if options.get(name) == "m" and module not in tree
    ]
    where = (
        f"/lib/modules/{kernel.release}, lib/modules beside the image's folder, {kernel.modules}"
    )
    return [f"there is no {module}.ko (looked in: {where})" for module in gone]
