# SPDX-License-Identifier: MIT
"""The capabilities of an endpoint as tables, and how they are chained into configuration space.

Sources: PCI Power Management 1.2 section 3.2; PCI 3.0 section 6.8.2 (MSI-X); PCI Express base
specification 7.5.3 (PCI Express capability) and 7.8.4 (Advanced Error Reporting).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.pci.config_space import SIZE, Register
from emulator.pci.errors import BadDeviceError

FIRST_CAPABILITY = 0x40
FIRST_EXTENDED = 0x100

PM_STATE = 0b11
PM_D3HOT = 0b11
PM_NO_SOFT_RESET = 1 << 3
PM_VERSION_3 = 0b011

MSIX_ENABLE = 1 << 15
MSIX_FUNCTION_MASK = 1 << 14
MSIX_ENTRY = 16
MSIX_PBA_OFFSET = 0x800
MSIX_MAX_VECTORS = MSIX_PBA_OFFSET // MSIX_ENTRY

DEVCAP_MPS_256 = 0b001
DEVCAP_EXTENDED_TAG = 1 << 5
DEVCAP_ROLE_BASED_ERRORS = 1 << 15
DEVCAP_FLR = 1 << 28
DEVCTL_ERROR_REPORTING = 0xF
DEVCTL_RELAXED_ORDERING = 1 << 4
DEVCTL_MPS = 0b111 << 5
DEVCTL_EXTENDED_TAG = 1 << 8
DEVCTL_NO_SNOOP = 1 << 11
DEVCTL_MRRS = 0b111 << 12
DEVCTL_MRRS_512 = 0b010 << 12
DEVCTL_FLR = 1 << 15
DEVSTA_CORRECTABLE, DEVSTA_NON_FATAL, DEVSTA_FATAL, DEVSTA_UNSUPPORTED = 1, 2, 4, 8
LINK_8GT = 3
LINK_X4 = 4 << 4
LINKCAP_ASPM_OPTIONALITY = 1 << 22
LINKCTL_WRITE = 0x00CB
"""ASPM control, read completion boundary, common clock, extended synch."""
LINKSTA_SLOT_CLOCK = 1 << 12
LINKCAP2_SPEEDS = 0b111 << 1
COMPLETION_TIMEOUT_DISABLE = 1 << 4

AER_UNCORRECTABLE = 0x0057F030
"""The uncorrectable errors an endpoint without ECRC and TLP blocking can have."""
AER_SEVERITY_RESET = 0x00462030
AER_UNCORRECTABLE_MASK_RESET = 1 << 22
AER_CORRECTABLE = 0x0000F1C1
AER_CORRECTABLE_MASK_RESET = 0x0000E000


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability of ``size`` bytes; ``registers`` come after its 2-byte (extended: 4-byte) head.

    ``version`` is that of an extended capability; 0 says that it is not extended.
    """

    name: str
    id: int
    size: int
    registers: tuple[Register, ...]
    version: int = 0


def power_management(no_soft_reset: bool) -> Capability:
    """D0 and D3hot, no PME; without ``no_soft_reset`` the way back to D0 resets the function."""
    control = PM_NO_SOFT_RESET if no_soft_reset else 0
    registers = (
        Register("capabilities", 2, 2, PM_VERSION_3),
        Register("control", 4, 2, control, write=PM_STATE),
    )
    return Capability("pm", 0x01, 8, registers)


def msix(vectors: int, bar: int) -> Capability:
    """``vectors`` vectors: the table at 0 of ``bar``, the pending bits at 0x800."""
    if vectors not in range(1, MSIX_MAX_VECTORS + 1):
        raise BadDeviceError(f"msix_vectors is {vectors!r}: need 1 to {MSIX_MAX_VECTORS}")
    registers = (
        Register("control", 2, 2, vectors - 1, write=MSIX_ENABLE | MSIX_FUNCTION_MASK),
        Register("table", 4, 4, bar),
        Register("pba", 8, 4, MSIX_PBA_OFFSET | bar),
    )
    return Capability("msix", 0x11, 12, registers)


def pci_express() -> Capability:
    """Version 2, endpoint: FLR, 256-byte payloads, an 8 GT/s x4 link that is always up."""
    device_capabilities = (
        DEVCAP_MPS_256 | DEVCAP_EXTENDED_TAG | DEVCAP_ROLE_BASED_ERRORS | DEVCAP_FLR
    )
    device_control = (
        DEVCTL_ERROR_REPORTING
        | DEVCTL_RELAXED_ORDERING
        | DEVCTL_MPS
        | DEVCTL_EXTENDED_TAG
        | DEVCTL_NO_SNOOP
        | DEVCTL_MRRS
    )
    link = LINK_8GT | LINK_X4
    registers = (
        Register("capabilities", 0x02, 2, 2),
        Register("device_capabilities", 0x04, 4, device_capabilities),
        Register(
            "device_control",
            0x08,
            2,
            DEVCTL_RELAXED_ORDERING | DEVCTL_NO_SNOOP | DEVCTL_MRRS_512,
            write=device_control,
            pulse=DEVCTL_FLR,
            sticky=DEVCTL_MPS,
        ),
        Register("device_status", 0x0A, 2, w1c=0xF),
        Register("link_capabilities", 0x0C, 4, link | LINKCAP_ASPM_OPTIONALITY),
        Register("link_control", 0x10, 2, write=LINKCTL_WRITE, sticky=LINKCTL_WRITE),
        Register("link_status", 0x12, 2, link | LINKSTA_SLOT_CLOCK),
        Register("device_capabilities_2", 0x24, 4, COMPLETION_TIMEOUT_DISABLE),
        Register("device_control_2", 0x28, 2, write=COMPLETION_TIMEOUT_DISABLE),
        Register("link_capabilities_2", 0x2C, 4, LINKCAP2_SPEEDS),
        Register("link_control_2", 0x30, 2, LINK_8GT, write=0xF, sticky=0xF),
    )
    return Capability("pcie", 0x10, 0x3C, registers)


def advanced_error_reporting() -> Capability:
    """Status (write 1 to clear), mask, severity and header log; all of it survives an FLR."""
    all_ones = 0xFFFFFFFF
    uncorrectable, correctable = AER_UNCORRECTABLE, AER_CORRECTABLE
    registers = (
        Register("uncorrectable_status", 0x04, 4, w1c=uncorrectable, sticky=all_ones),
        _aer_mask("uncorrectable_mask", 0x08, AER_UNCORRECTABLE_MASK_RESET, uncorrectable),
        _aer_mask("uncorrectable_severity", 0x0C, AER_SEVERITY_RESET, uncorrectable),
        Register("correctable_status", 0x10, 4, w1c=correctable, sticky=all_ones),
        _aer_mask("correctable_mask", 0x14, AER_CORRECTABLE_MASK_RESET, correctable),
        Register("control", 0x18, 4, sticky=all_ones),
        *(Register(f"header_log{i}", 0x1C + 4 * i, 4, sticky=all_ones) for i in range(4)),
    )
    return Capability("aer", 0x0001, 0x2C, registers, version=1)


def _aer_mask(name: str, offset: int, reset: int, bits: int) -> Register:
    return Register(name, offset, 4, reset, write=bits, sticky=0xFFFFFFFF)


def chain(capabilities: Sequence[Capability]) -> list[Register]:
    """Places ``capabilities`` one after the other and links them, plain and extended apart.

    Raises:
        BadDeviceError: they do not fit.
    """
    plain = [c for c in capabilities if not c.version]
    extended = [c for c in capabilities if c.version]
    return [
        *_place(plain, FIRST_CAPABILITY, FIRST_EXTENDED),
        *_place(extended, FIRST_EXTENDED, SIZE),
    ]


def _place(capabilities: Sequence[Capability], start: int, end: int) -> list[Register]:
    registers = []
    for position, capability in enumerate(capabilities):
        following = start + capability.size
        if following > end:
            raise BadDeviceError(f"capability {capability.name} does not fit below {end:#x}")
        last = position == len(capabilities) - 1
        registers.append(_head(capability, start, 0 if last else following))
        registers += [r.moved(capability.name, start) for r in capability.registers]
        start = following
    return registers


def _head(capability: Capability, offset: int, following: int) -> Register:
    if capability.version:
        value = capability.id | capability.version << 16 | following << 20
        return Register(f"{capability.name}.head", offset, 4, value)
    return Register(f"{capability.name}.head", offset, 2, capability.id | following << 8)
