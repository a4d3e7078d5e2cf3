# SPDX-License-Identifier: MIT
"""A kernel that lacks what a guest needs is refused by name, not booted without it."""

from pathlib import Path

import pytest

from vm.errors import SetupError
from vm.kernel import KernelTree
from vm.kernel_config import flavour_for, require_drivers
from vm.machine import ALL_IOMMUS, GuestConfig, Iommu

COMPLETE = {
    **dict.fromkeys(("MODULES", "BLK_DEV_INITRD", "DEVTMPFS", "TMPFS", "PCI_MSI"), "y"),
    **dict.fromkeys(("SERIAL_8250_CONSOLE", "PAGE_POOL", "INTEL_IOMMU", "AMD_IOMMU"), "y"),
    "VIRTIO_PCI": "y",
    "VIRTIO_CONSOLE": "y",
    "VIRTIO_IOMMU": "m",
}


def tree(folder: Path, options: dict[str, str], modules: tuple[str, ...]) -> KernelTree:
    lines = [
        f"CONFIG_{name}={value}" if value else f"# CONFIG_{name} is not set"
        for name, value in options.items()
    ]
    (folder / ".config").write_text("\n".join(lines) + "\n")
    for module in modules:
        (folder / f"{module}.ko.xz").touch()
    return KernelTree(folder / "vmlinux", True, "6.9.0-own", folder, folder)


@pytest.mark.parametrize("iommu", ALL_IOMMUS)
def test_complete_kernel_is_taken(tmp_path: Path, iommu: Iommu) -> None:
    require_drivers(tree(tmp_path, COMPLETE, ("virtio_iommu",)), GuestConfig(iommu=iommu))


@pytest.mark.parametrize(
    ("iommu", "changed", "modules", "words"),
    [
        (
            "virtio-lazy",
            {},
            (),
            r"virtio-lazy: there is no virtio_iommu\.ko \(looked in: /lib/modules/6\.9\.0-own",
        ),
        ("virtio-strict", {"VIRTIO_IOMMU": ""}, ("virtio_iommu",), "CONFIG_VIRTIO_IOMMU is off"),
        ("intel-strict", {"INTEL_IOMMU": ""}, (), "CONFIG_INTEL_IOMMU must be y"),
        ("intel-lazy", {"INTEL_IOMMU": ""}, (), "CONFIG_INTEL_IOMMU must be y"),
        ("amd-lazy", {"AMD_IOMMU": ""}, (), "CONFIG_AMD_IOMMU must be y"),
        ("none", {"VIRTIO_CONSOLE": "m"}, (), r"no virtio_console\.ko"),
        ("none", {"PAGE_POOL": "", "TMPFS": ""}, (), "TMPFS must be y; CONFIG_PAGE_POOL must be"),
    ],
)
def test_lack_is_named(
    tmp_path: Path,
    iommu: Iommu,
    changed: dict[str, str],
    modules: tuple[str, ...],
    words: str,
) -> None:
    kernel = tree(tmp_path, {**COMPLETE, **changed}, modules)
    with pytest.raises(SetupError, match=words):
        require_drivers(kernel, GuestConfig(iommu=iommu))


def test_what_another_iommu_needs_is_not_asked_for(tmp_path: Path) -> None:
    bare = {**COMPLETE, "INTEL_IOMMU": "", "AMD_IOMMU": "", "VIRTIO_IOMMU": ""}
    require_drivers(tree(tmp_path, bare, ()), GuestConfig(iommu="none"))


def test_amd_iommu_is_asked_of_a_kernel_that_has_no_driver_for_it() -> None:
    assert flavour_for(["none", "intel-lazy", "virtio-strict"]) == "cloud"
    assert flavour_for(["none", "amd-strict"]) == flavour_for(["amd-lazy"]) == "full"
