# SPDX-License-Identifier: MIT
"""``stamp.sv`` as a PCI device: all it takes to put an AXI design behind a guest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from emulator.pci.device import Bar
from emulator.rtl.layout import FOLDER
from emulator.rtl.pci_device import RtlDevice

FILES: Sequence[Path] = (
    FOLDER / "dmabed_tlp_pkg.sv",
    FOLDER / "dmabed_axil.sv",
    Path(__file__).parent / "stamp.sv",
)


class StampDevice(RtlDevice):
    """One BAR, one vector; see the head of ``stamp.sv`` for the registers."""

    top, files = "stamp", FILES
    device_id = 0x57A0
    bars: ClassVar = {0: Bar(size=4096)}
    msix_vectors = 1
