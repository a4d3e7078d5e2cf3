# SPDX-License-Identifier: MIT
"""``dmabed_nic`` under cocotb: clock, reset, configuration space's wires, BAR 0, MAC."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from emulator.frames import FrameBatch
from emulator.nic.steering import Filter, steer
from emulator.rtl.agent import DEVICE_ID
from emulator.rtl.host import NS_PER_CYCLE
from emulator.rtl.link import Handle, Link

MSIX = 1 << 16
QUIET_BUSES = ("s_axil", "s_rx", "m_tx")
"""Their models would log each beat's bytes, which costs more than the simulation."""
SETTLE_CYCLES = 20_000


RESET: Final[Mapping[str, int]] = MappingProxyType(
    {
        "link_up": 1,
        "power_on_mac": int.from_bytes(bytes.fromhex("02dbed000001"), "little"),
        "cfg_bus_master": 0,
        "cfg_ats": 0,
        "cfg_flr": 0,
        "cfg_stu": 0,
        "cfg_mps": 1,
        "cfg_mrrs": 2,
        "cfg_requester": DEVICE_ID,
        "cfg_msix_enable": 0,
        "cfg_msix_mask": 0,
        "cfg_pasid_valid": 0,
        "cfg_pasid": 0,
    }
)
"""The inputs that are not on a bus, and what they are after power-on."""


class AxiDesign:
    """A design with ``s_axil_*``, ``tx_*``, ``rx_*`` and any of the inputs in :data:`RESET`."""

    def __init__(self, dut: Handle) -> None:
        self.dut = dut
        for name, value in RESET.items():
            if hasattr(dut, name):
                getattr(dut, name).value = value
        dut.rst.value = 1
        for bus in QUIET_BUSES:
            logging.getLogger(f"cocotb.{dut._name}.{bus}").setLevel(logging.WARNING)
        self.link = Link(dut)
        self.axil = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)

    async def start(self) -> None:
        """Clock on, reset over."""
        Clock(self.dut.clk, NS_PER_CYCLE, "ns").start()
        await ClockCycles(self.dut.clk, 5)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)
        self.link.start()

    # ------------------------------------------------------------------ registers
    async def read(self, offset: int) -> int:
        """A 32-bit register of BAR 0, or from :data:`MSIX` on of the MSI-X table."""
        return int(await self.axil.read_dword(offset))

    async def read64(self, offset: int) -> int:
        """A 64-bit counter."""
        return await self.read(offset) | await self.read(offset + 4) << 32

    async def write(self, offset: int, value: int) -> None:
        """Writes a 32-bit register."""
        await self.axil.write_dword(offset, value)

    async def program_vector(self, vector: int, address: int, data: int) -> None:
        """Unmasks an MSI-X vector that writes ``data`` to ``address``."""
        base = MSIX + 16 * vector
        for at, value in ((0, address & 0xFFFF_FFFF), (4, address >> 32), (8, data), (12, 0)):
            await self.write(base + at, value)

    # ------------------------------------------------------------------ configuration space
    async def configure(self, **wires: int) -> None:
        """Changes ``cfg_`` wires, and returns when a configuration write would be completed."""
        for name, value in wires.items():
            getattr(self.dut, f"cfg_{name}").value = value
        edge = RisingEdge(self.dut.clk)
        await edge
        for _ in range(SETTLE_CYCLES):
            await edge
            if self.dut.cfg_settled.value == 1:
                return
        raise TimeoutError(f"the device did not settle within {SETTLE_CYCLES} cycles of {wires}")

    async def function_level_reset(self) -> None:
        """Resets the function; bus mastering and ATS are off afterwards, as the spec has it."""
        for name in ("cfg_bus_master", "cfg_ats", "cfg_msix_enable"):
            if hasattr(self.dut, name):
                getattr(self.dut, name).value = 0
        self.dut.cfg_flr.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.cfg_flr.value = 0
        await self.configure()


class Dut(AxiDesign):
    """``dmabed_nic`` and its MAC. ``queues``: as it was built."""

    def __init__(self, dut: Handle, queues: int = 1) -> None:
        super().__init__(dut)
        self.queues = queues
        self.mac = Mac(dut)


class Mac:
    """The MAC and parser: filters and hashes frames for the device, takes those it sends."""

    def __init__(self, dut: Handle) -> None:
        self._dut = dut
        self.source = AxiStreamSource(
            AxiStreamBus.from_prefix(dut, "s_rx"), dut.clk, dut.rst, byte_lanes=16
        )
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_tx"), dut.clk, dut.rst)
        self.bad = 0

    @property
    def waiting(self) -> int:
        """Frames on their way to the device."""
        return int(self.source.count()) + int(self.source.active)

    async def send(self, frame: bytes, queue: int | None = None) -> bool:
        """Offers a frame to the device; False: its filter does not let it in.

        queue: where it goes; None: where its flow hash and RSS_QUEUES say.
        """
        dut = self._dut
        what = Filter(
            mac=int(dut.mac_address.value),
            promisc=dut.mac_promisc.value == 1,
            allmulti=dut.mac_allmulti.value == 1,
        )
        passed, hashes = steer(FrameBatch.of([frame]), what)
        if not len(passed):
            return False
        flow = int(hashes[0])
        count = max(1, int(self._dut.mac_rss_queues.value))
        user = (flow % count if queue is None else queue) << 48 | len(frame) << 32 | flow
        padded = frame.ljust(-(-len(frame) // 16) * 16, b"\0")
        await self.source.send(AxiStreamFrame(padded, tuser=user))
        return True

    def receive_nowait(self) -> bytes | None:
        """The next frame the device sent well, or None; bad ones are counted."""
        while not self.sink.empty():
            frame = self.sink.recv_nowait(compact=False)
            data = bytes(b for b, keep in zip(frame.tdata, frame.tkeep, strict=True) if keep)
            users = frame.tuser if isinstance(frame.tuser, list) else [frame.tuser]
            if users and users[-1]:
                self.bad += 1
                continue
            return data
        return None
