# SPDX-License-Identifier: MIT
"""The RTL in a topology of cocotbext-pcie: a function behind switches, a root port with an IOMMU.

Configuration space, enumeration, BARs, routing, credits and completions are the library's. What it
lacks is here: the ATS capability, and a root port that looks at the address type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cocotb
from cocotb.queue import Queue
from cocotbext.pcie.core.bridge import RootPort, SwitchDownstreamPort, SwitchUpstreamPort
from cocotbext.pcie.core.caps import MsixCapability, PciExtCap, PciExtCapId
from cocotbext.pcie.core.endpoint import MemoryEndpoint
from cocotbext.pcie.core.switch import Switch
from cocotbext.pcie.core.tlp import Tlp, TlpAt, TlpType

from emulator.nic.identity import CLASS_CODE, DEVICE_ID, VENDOR_ID
from emulator.rtl.agent import OFFSET_MASK, TranslationAgent
from emulator.rtl.dut import MSIX, Dut
from emulator.rtl.tlp import ROOT_ID, AtsTlp, Kind

BAR_BYTES: Final = 1 << 17
PENDING: Final = MSIX + 0x800
MESSAGES: Final = (TlpType.MSG_ID, TlpType.MSG_DATA_ID)
PORT_TLPS: Final = 4
"""TLPs of the design that may wait for credits before its port is stopped."""
_COMMAND, _RESET_BIT = 1, 1 << 15


class AtsCapability(PciExtCap):  # type: ignore[misc]
    """The ATS extended capability, PCIe Base Specification 10.5.1: queue depth 32, page aligned."""

    def __init__(self) -> None:
        super().__init__()
        self.cap_id, self.cap_ver, self.length = PciExtCapId.ATS, 1, 2
        self.enabled, self.stu = False, 0

    async def _read_register(self, reg: int) -> int:
        return 1 << 5 | 1 << 6 | self.stu << 16 | self.enabled << 31

    async def write_register(self, reg: int, data: int, mask: int) -> None:
        """Control: STU in bits 20:16, Enable in bit 31."""
        if reg == 1 and mask & 4:
            self.stu = data >> 16 & 0x1F
        if reg == 1 and mask & 8:
            self.enabled = bool(data >> 31)


class ByIdentity:
    """Messages routed by ID: the library's functions and bridges raise at any message."""

    def match_tlp(self, tlp: Tlp) -> bool:
        """Whether ``tlp`` is for this function."""
        mine: Any = self
        if tlp.fmt_type in MESSAGES:
            return bool(tlp.completer_id == mine.pcie_id)
        parent: Any = super()
        return bool(parent.match_tlp(tlp))


class _Upstream(ByIdentity, SwitchUpstreamPort):  # type: ignore[misc]
    """A switch's port towards the root."""


class _Downstream(ByIdentity, SwitchDownstreamPort):  # type: ignore[misc]
    """A switch's port towards a device."""


class MessageSwitch(Switch):  # type: ignore[misc]
    """The library's switch, of ports that pass messages on."""

    def __init__(self) -> None:
        self.default_upstream_bridge = _Upstream
        self.default_downstream_bridge = _Downstream
        super().__init__()


class RtlFunction(ByIdentity, MemoryEndpoint):  # type: ignore[misc]
    """``design`` as a function: BAR 0 is its AXI4-Lite bus, its TLPs are the function's.

    Configuration space drives the ``cfg_`` wires, and a write is completed when they are in force.
    """

    def __init__(self, design: Dut) -> None:
        super().__init__()
        self.design = design
        self.vendor_id, self.device_id, self.class_code = VENDOR_ID, DEVICE_ID, CLASS_CODE
        self.add_mem_region(BAR_BYTES, self._read_bar, self._write_bar)
        self.msix_cap, self.ats_cap = MsixCapability(), AtsCapability()
        self.msix_cap.msix_table_size = design.queues  # one less than there are
        self.msix_cap.msix_table_offset, self.msix_cap.msix_pba_offset = MSIX, PENDING
        self.pcie_cap.function_level_reset_capability = True
        self.register_capability(self.msix_cap)
        self.register_extended_capability(self.ats_cap)
        self._leaving: Queue[AtsTlp] = Queue()
        design.link.listeners.append(self._leaving.put_nowait)
        design.link.ready = lambda: self._leaving.qsize() < PORT_TLPS
        cocotb.start_soon(self._forward())

    async def _read_bar(self, offset: int, length: int) -> bytes:
        return bytes((await self.design.axil.read(offset, length)).data)

    async def _write_bar(self, offset: int, data: bytes) -> None:
        await self.design.axil.write(offset, bytes(data))

    async def _forward(self) -> None:
        while True:
            await self.send(await self._leaving.get())

    async def handle_tlp(self, tlp: Tlp) -> None:
        """Completions and messages are the design's, all else the library handles."""
        if tlp.is_completion() or tlp.fmt_type in MESSAGES:
            tlp.release_fc()
            self.design.link.send(AtsTlp(tlp))
        else:
            await super().handle_tlp(tlp)

    async def write_config_register(self, reg: int, data: int, mask: int) -> None:
        """As the library, and then on the wires."""
        await super().write_config_register(reg, data, mask)
        if reg == self.pcie_cap.offset + 2 and mask & 2 and data & _RESET_BIT:
            self.bus_master_enable = self.msix_cap.msix_enable = self.ats_cap.enabled = False
            await self.design.function_level_reset()
        elif reg == _COMMAND or reg >= 0x10:
            await self.design.configure(**self._wires())

    def _wires(self) -> dict[str, int]:
        return {
            "bus_master": int(self.bus_master_enable),
            "requester": int(self.pcie_id),
            "mps": int(self.pcie_cap.max_payload_size),
            "mrrs": int(self.pcie_cap.max_read_request_size),
            "msix_enable": int(self.msix_cap.msix_enable),
            "msix_mask": int(self.msix_cap.msix_function_mask),
            "ats": int(self.ats_cap.enabled),
            "stu": self.ats_cap.stu,
        }


class IommuPort(RootPort):  # type: ignore[misc]
    """A root port with translation: the library's root complex behind it sees memory addresses.

    Its internal switch and host bridge would raise at a message and ignore the address type, so
    both are dealt with here. translate: IOVA, whether it is a write -> address, None: no access.
    untranslated: whether an address is none of the IOMMU's (interrupts).
    """

    def __init__(
        self, translate: Callable[[int, bool], int | None], untranslated: Callable[[int], bool]
    ) -> None:
        super().__init__()
        self._translate, self._untranslated = translate, untranslated
        self.agent: TranslationAgent | None = None
        self.memory_base = 0
        self.refused = 0

    async def downstream_recv(self, tlp: Tlp) -> None:
        """What comes from the device."""
        if tlp.is_completion():
            await super().downstream_recv(tlp)
            return
        ats, agent = AtsTlp(tlp), self.agent
        assert agent is not None
        if ats.kind in (Kind.TRANSLATION, Kind.INV_CPL):
            tlp.release_fc()
            (agent.request if ats.kind is Kind.TRANSLATION else agent.completed)(ats)
            return
        at = self._address(ats)
        if at is None:
            self.refused += 1
            tlp.release_fc()
            if ats.kind is Kind.READ:
                await self.downstream_send(Tlp.create_ur_completion_for_tlp(tlp, ROOT_ID))
            return
        tlp.address, tlp.at = at & ~3, TlpAt.DEFAULT
        await super().downstream_recv(tlp)

    def _address(self, tlp: AtsTlp) -> int | None:
        if tlp.translated:
            return self.memory_base + (tlp.addr & OFFSET_MASK)
        if self._untranslated(tlp.addr):
            return tlp.addr
        found = self._translate(tlp.addr, tlp.kind is Kind.WRITE)
        return None if found is None else self.memory_base + found


class PortLink:
    """What :class:`TranslationAgent` sends by: as a Link, but through the topology.

    link: of the design; its clock times what is sent later, and its arrivals are the listeners'.
    """

    def __init__(self, link: Any, port: IommuPort) -> None:  # noqa: ANN401
        self._link, self._port = link, port
        self.after = link.after
        self.sent_listeners: list[Callable[[AtsTlp], None]] = []
        self._queue: Queue[AtsTlp] = Queue()
        cocotb.start_soon(self._run())

    @property
    def cycle(self) -> int:
        """Of the design's clock."""
        return int(self._link.cycle)

    def send(self, tlp: AtsTlp) -> None:
        """Queues ``tlp`` for the device; order is kept."""
        self._queue.put_nowait(tlp)

    async def _run(self) -> None:
        while True:
            tlp = await self._queue.get()
            await self._port.downstream_send(tlp)
            for listener in self.sent_listeners:
                listener(tlp)
