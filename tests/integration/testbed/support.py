# SPDX-License-Identifier: MIT
"""A device process with two NICs, and clients in the place of QEMU and its guest."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.latency import LatencyModel
from emulator.ledger import Policy
from emulator.nic import registers as r
from emulator.nic.config import NicConfig
from emulator.vfio_user.messages import PciRegion
from testbed.benches import NicSpec
from testbed.device_process import DeviceProcess
from tests.support.nic_host import MAC, Side
from tests.support.vfio_user_client import VfioUserClient, sealed_memfd

COMMAND, MEM, BUS_MASTER = 4, 2, 4
PAGE = 4096
GUEST_BYTES = 1 << 21
IOVA = 0x40_0000_0000
WAIT_S = 20.0


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for what another process does; fails rather than hangs."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain for {what}"
        time.sleep(0.001)


class GuestNic:
    """The guest's side of one NIC: memory mapped page by page, registers, bare rings.

    It offers to `tests.support.nic_host.Side` what that needs of a host. Nothing is mapped by
    itself.
    """

    def __init__(self, path: Path) -> None:
        self.fd = sealed_memfd(GUEST_BYTES)
        self._view = mmap.mmap(self.fd, GUEST_BYTES)
        self._bytes = np.frombuffer(self._view, np.uint8)
        self._free = IOVA
        self.connect(path)

    def connect(self, path: Path) -> None:
        """A new session, for the same memory: nothing is mapped in it yet."""
        self.client = VfioUserClient.connect(path)
        self.client.version()

    # -- what Side asks for
    def alloc(self, size: int, align: int) -> int:
        iova = -(-self._free // align) * align
        self._free = iova + size
        assert self._free <= IOVA + GUEST_BYTES
        return iova

    def memory(self, iova: int, size: int) -> NDArray[np.uint8]:
        view: NDArray[np.uint8] = self._bytes[iova - IOVA : iova - IOVA + size]
        return view

    def read(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(self.client.region_read(PciRegion.BAR0, offset, size), "little")

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.client.region_write(PciRegion.BAR0, offset, value.to_bytes(size, "little"))

    # -- what a driver does
    def map(self, iova: int, size: int) -> None:
        """Maps each page by itself, as a guest's IOMMU does."""
        for page in range(iova, iova + size, PAGE):
            self.client.dma_map(page, PAGE, self.fd, page - IOVA)

    def unmap(self, iova: int, size: int) -> None:
        for page in range(iova, iova + size, PAGE):
            self.client.dma_unmap(page, PAGE)

    def enable(self, master: bool = True) -> None:
        command = (MEM | BUS_MASTER * master).to_bytes(2, "little")
        self.client.region_write(PciRegion.CONFIG, COMMAND, command)

    def note(self, value: int) -> None:
        self.write(r.DMABED_NOTE, value)

    def up(self, side: str = "RX", log2: int = 6) -> Side:
        """Bus master on, MAC on, one ring of pair 0 with its memory mapped and running."""
        self.enable()
        self.note(1)
        ring = Side(self, 0, side, log2, 2048)  # type: ignore[arg-type]
        for iova, size in self.ranges(ring):
            self.map(iova, size)
        self.write(r.DMABED_RX_FILTER, 1)
        self.write(r.DMABED_CTRL, r.DMABED_CTRL_ENABLE)
        ring.start()
        return ring

    def down(self, ring: Side) -> None:
        """Stops the ring, unmaps all of it, and says so."""
        self.write(ring.reg("CTRL"), 0)
        for iova, size in self.ranges(ring):
            self.unmap(iova, size)
        self.note(2)
        self.enable(master=False)
        self.note(3)

    @staticmethod
    def ranges(ring: Side) -> list[tuple[int, int]]:
        """IOVA and size, both whole pages, of descriptors, completions and buffers."""
        return [(ring.ring, PAGE), (ring.cq, PAGE), (ring.buffers, ring.buffer * ring.size)]

    def close(self) -> None:
        self.client.close()
        os.close(self.fd)


class Bench:
    """A device process with the NICs "nic" and "other", and clients of theirs."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.folder = folder
        self.sockets = {name: folder / f"{name}.sock" for name in ("nic", "other")}
        specs = [NicSpec(n, path, NicConfig(mac=MAC)) for n, path in self.sockets.items()]
        self.devices = DeviceProcess(specs, policy, folder / "devices.log")
        self._guests: list[GuestNic] = []

    def call(self, method: str, *arguments: object) -> Any:
        return self.devices.call(method, *arguments)

    def guest(self, name: str = "nic") -> GuestNic:
        self._guests.append(GuestNic(self.sockets[name]))
        return self._guests[-1]

    def begin(self) -> None:
        """As a case begins: no delay, nothing plugged in, counted from here."""
        for name in self.sockets:
            self.call("unplug", name)
            self.call("latency", name, LatencyModel())
            self.call("link", name, True)
            self.call("begin_case", name)

    def hang_up(self) -> None:
        """Closes all clients and waits until the devices have seen it."""
        while self._guests:
            self._guests.pop().close()
        until(lambda: not any(self.call("exposed", n).live for n in self.sockets), "the hang-up")
