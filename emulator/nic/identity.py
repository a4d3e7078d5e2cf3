# SPDX-License-Identifier: MIT
"""Who the NIC says it is on PCI, and how its MSI-X vectors are numbered.

The C header and the SystemVerilog package repeat these values; they are generated from here.
"""

from __future__ import annotations

from typing import Final

VENDOR_ID: Final = 0x1234
DEVICE_ID: Final = 0xDBED
REVISION_ID: Final = 1
CLASS_CODE: Final = 0x020000
"""Network controller, Ethernet."""

EVENT_VECTOR: Final = 0
"""The MSI-X vector of EVENT."""

FIRST_QUEUE_VECTOR: Final = 1
"""Queue pair ``q`` has MSI-X vector ``FIRST_QUEUE_VECTOR + q``."""
