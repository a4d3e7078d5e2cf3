# SPDX-License-Identifier: MIT
"""Makes a guest's IOMMU as lazy as its configuration says, and sees that it is as strict.

intel-iommu in caching mode and amd-iommu make Linux turn its flush queue off at boot, whatever
`iommu.strict=0` says: a hypervisor that shadows page tables would have more work with it. The
flush queue of a group can be brought up later all the same, by its file `type`, also while a driver
uses the device (iommu_group_store_type() in drivers/iommu/iommu.c, 5.15 and newer).
"""

from __future__ import annotations

from vm.errors import VmError
from vm.guest import Guest
from vm.machine import Iommu

#: What the file `type` of a group says of a domain for the DMA API, without and with a flush queue.
STRICT, LAZY = "DMA", "DMA-FQ"
_SWITCHED: tuple[Iommu, ...] = ("intel-lazy", "amd-lazy")


async def settle_invalidation(guest: Guest) -> None:
    """To be called when the devices are there; sets what has to be set, and looks at every group.

    Raises:
        VmError: a group is not as lazy, or as strict, as the configuration asks for.
    """
    iommu = guest.config.iommu
    if iommu == "none":
        return
    groups = "/sys/kernel/iommu_groups/*/type"
    switch = f"for f in {groups}; do echo {LAZY} > $f; done; " if iommu in _SWITCHED else ""
    said = await guest.run(f"{switch}cat {groups}", check=False)
    wanted = LAZY if iommu.endswith("lazy") else STRICT
    types = said.stdout.split()
    if not types or set(types) != {wanted}:
        raise VmError(
            f"{iommu}: the guest's IOMMU groups are of type {', '.join(types) or 'none at all'}, "
            f"not all {wanted}; {said.stderr.strip() or 'see the console log'}"
        )
