# SPDX-License-Identifier: MIT
"""Records errors in the Advanced Error Reporting capability (PCIe base spec. 6.2 and 7.8.4).

Only the function's own registers: vfio-user has no message that would reach the root port.
"""

from __future__ import annotations

from emulator.pci.capabilities import (
    AER_CORRECTABLE,
    AER_UNCORRECTABLE,
    DEVSTA_CORRECTABLE,
    DEVSTA_FATAL,
    DEVSTA_NON_FATAL,
    DEVSTA_UNSUPPORTED,
)
from emulator.pci.config_space import ConfigSpace

COMPLETION_TIMEOUT = 14
COMPLETER_ABORT = 15
UNEXPECTED_COMPLETION = 16
MALFORMED_TLP = 18
UNSUPPORTED_REQUEST = 20


def record_correctable(config: ConfigSpace, bit: int) -> None:
    """Sets error ``bit`` of the correctable status; a bit that an endpoint lacks is ignored."""
    if AER_CORRECTABLE >> bit & 1:
        config["aer.correctable_status"] |= 1 << bit
        config["pcie.device_status"] |= DEVSTA_CORRECTABLE


def record_uncorrectable(config: ConfigSpace, bit: int, header: tuple[int, int, int, int]) -> None:
    """Sets error ``bit``; the first one that is not masked keeps its TLP ``header`` (four words).

    Bits that an endpoint lacks are ignored.
    """
    if not AER_UNCORRECTABLE >> bit & 1:
        return
    unmasked = ~config["aer.uncorrectable_mask"]
    earlier = config["aer.uncorrectable_status"] & unmasked
    config["aer.uncorrectable_status"] |= 1 << bit
    if unmasked >> bit & 1 and not earlier:
        config["aer.control"] = bit
        for index, word in enumerate(header):
            config[f"aer.header_log{index}"] = word & 0xFFFFFFFF
    fatal = config["aer.uncorrectable_severity"] >> bit & 1
    status = DEVSTA_FATAL if fatal else DEVSTA_NON_FATAL
    if bit == UNSUPPORTED_REQUEST:
        status |= DEVSTA_UNSUPPORTED
    config["pcie.device_status"] |= status
