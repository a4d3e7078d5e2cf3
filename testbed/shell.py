# SPDX-License-Identifier: MIT
"""``dmabed vm``: a guest shell with the NIC up, a peer to ping, a verdict at the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

from emulator.nic.wire.peer import PEER_IP
from testbed.rig import GUEST_ADDRESS, open_rig
from testbed.scenario import Iommu, NicPlan, RxMode, VmPlan
from vm.artifacts import setup
from vm.kernel_config import flavour_for
from vm.terminal import shell_on_terminal

_WELCOME = """\
{interface} is up, {address}, rx_mode {strategy}, {iommu}.  Try:
    ping {peer}
    ethtool -S {interface}
    ethtool -i {interface}
exit or Ctrl-] ends the guest.
"""


async def guest_shell(iommu: Iommu, strategy: RxMode) -> int:
    """Boots, brings the NIC up and hands the terminal over; returns the exit status."""
    artifacts = setup(print, flavour=flavour_for([iommu]))
    with tempfile.TemporaryDirectory(prefix="dmabed-vm-") as folder:
        async with open_rig(artifacts, iommu, Path(folder), VmPlan(), NicPlan()) as rig:
            await rig.load(strategy)
            await rig.guest.run(f"ip addr add {GUEST_ADDRESS} dev {rig.interface}")
            print(
                _WELCOME.format(
                    interface=rig.interface,
                    address=GUEST_ADDRESS,
                    strategy=strategy,
                    iommu=iommu,
                    peer=PEER_IP,
                )
            )
            await shell_on_terminal(rig.guest)
            verdict = rig.devices.call("verdict")
    print("\n".join(verdict["summary"]))
    return 0 if verdict["ok"] else 3
