# SPDX-License-Identifier: MIT
"""The bench in a topology of cocotbext-pcie: root complex, a root port with an IOMMU, switch, NIC.

Everything the host does goes through configuration requests and BAR 0, everything the device does
through the switch and its credits; scoreboard, traffic and translation agent are the rig's.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from cocotbext.pcie.core import Device, RootComplex
from cocotbext.pcie.core.caps import PciCapId, PciExtCapId
from cocotbext.pcie.core.pci import PciDevice

from emulator.iommu.mapping import Mapping
from emulator.rtl.agent import GRANT_SHIFT, TranslationAgent
from emulator.rtl.dut import Dut
from emulator.rtl.tlp import AtsTlp
from emulator.rtl.topology import IommuPort, MessageSwitch, PortLink, RtlFunction
from tests.cocotb.rig import MEMORY, Rig

ALIGN = 1 << 24
DEVICE_CONTROL = 8


class RootMemory:
    """``size`` bytes of the library's root complex, as memory that IOVAs may be mapped to."""

    def __init__(self, root: RootComplex, size: int) -> None:
        self.base, memory = root.alloc_region(size)
        self.array = np.frombuffer(memory, np.uint8)
        self.index = 0


class PciDut(Dut):
    """The NIC as its driver sees it: through ``function``'s BAR and configuration space."""

    function: PciDevice | None = None

    async def read(self, offset: int) -> int:
        assert self.function is not None
        return int(await self.function.bar_window[0].read_dword(offset))

    async def write(self, offset: int, value: int) -> None:
        assert self.function is not None
        await self.function.bar_window[0].write_dword(offset, value)
        await self.read(0)  # so that the posted write has arrived


class Fabric:
    """The topology: what :class:`tests.cocotb.rig.Rig` calls its host."""

    def __init__(self, rig: PcieRig) -> None:
        # It tells of each request, and of each function that enumeration does not find.
        logging.getLogger("cocotb.pcie").setLevel(logging.ERROR)
        self.root = RootComplex()
        self.memory = RootMemory(self.root, MEMORY)
        self._rig = rig
        self.port = IommuPort(self._translate, self._is_interrupt)
        self.port.memory_base = self.memory.base
        self.root.make_port(self.port)
        switch = MessageSwitch()
        self.port.connect(switch.upstream_bridge.upstream_port)
        self.function = RtlFunction(rig.device)
        switch.make_port().connect(Device(self.function))
        self.on_final: list[Any] = []
        rig.link.sent_listeners.append(self._arrived)

    def _translate(self, iova: int, write: bool) -> int | None:
        found: Mapping | None = self._rig.space.find(iova)
        if found is None or not (found.writable if write else found.readable):
            return None
        return found.offset + iova - found.iova

    def _is_interrupt(self, address: int) -> bool:
        base = self.root.msi_region.get_absolute_address(0)
        return bool(base <= address < base + 16)

    def _arrived(self, tlp: AtsTlp) -> None:
        size = len(tlp.data) - (tlp.lower_address & 3)
        if tlp.is_completion() and (tlp.status or tlp.byte_count <= size):
            for listener in self.on_final:
                listener(tlp.tag)

    def iova_of(self, tlp: AtsTlp) -> int:
        """The IOVA behind the request's address."""
        grant = self._rig.agent.grants.get(tlp.addr >> GRANT_SHIFT) if tlp.translated else None
        return grant.iova_of(tlp.addr) if grant else tlp.addr


class PcieRig(Rig):
    """The rig, enumerated; ``function`` is the NIC as the root complex found it."""

    device_class = PciDut

    def connect(self) -> None:
        """Builds the topology where the plain rig has its own host."""
        self.host = Fabric(self)
        self.memory = self.host.memory
        self.agent = TranslationAgent(PortLink(self.link, self.host.port), self.space, self.rng)
        self.host.port.agent = self.agent

    async def power_on(self) -> None:
        """Clock, then enumeration: buses, BARs, payload sizes."""
        await super().power_on()
        await self.host.root.enumerate()
        nic = self.host.root.find_device(self.host.function.pcie_id)
        self.function = self.device.function = nic
        await nic.enable_device()
        self.agent.device = int(nic.pcie_id)
        self.board.requester = int(nic.pcie_id)

    async def program_vectors(self) -> None:
        """By the library's own MSI-X code."""
        nic = self.function
        if not nic.msix_enabled:
            assert await nic.alloc_irq_vectors(2, 2) == 2
            for vector in range(2):
                nic.request_irq(vector, self._raised(vector))

    def _raised(self, vector: int) -> Any:
        async def handler() -> None:
            self.interrupts.append(vector)

        return handler

    async def ats_control(self) -> int:
        """Offset of the ATS capability's control dword, found by walking the list."""
        at = 0x100
        while at:
            head = await self.function.config_read_dword(at)
            if head & 0xFFFF == PciExtCapId.ATS:
                return at + 4
            at = head >> 20
        raise AssertionError("no ATS capability")

    async def apply(self, **wires: int) -> None:
        """Configuration requests instead of wires."""
        nic = self.function
        if "ats" in wires:
            await nic.config_write_dword(await self.ats_control(), wires["ats"] << 31)
        if "mps" in wires:
            await nic.set_mps(wires["mps"])
        if "mrrs" in wires:
            await nic.set_readrq(wires["mrrs"])
        if "bus_master" in wires:
            await nic.set_master(bool(wires["bus_master"]))

    async def reset_function(self) -> None:
        """Initiate Function Level Reset, in Device Control; what was there comes back as it was."""
        nic = self.function
        control = await nic.capability_read_dword(PciCapId.EXP, DEVICE_CONTROL)
        await nic.capability_write_dword(PciCapId.EXP, DEVICE_CONTROL, control | 1 << 15)
        nic.msix_enabled, nic.is_busmaster = False, False
