# SPDX-License-Identifier: MIT
"""The type 0 header and the base address registers (PCI 3.0 sections 6.1 and 6.2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.pci.config_space import Register
from emulator.pci.errors import BadDeviceError

BAR_COUNT = 6
SMALLEST_BAR = 16
LARGEST_32BIT_BAR = 1 << 31
LARGEST_BAR = 1 << 40

COMMAND_MEMORY = 1 << 1
COMMAND_BUS_MASTER = 1 << 2
COMMAND_PARITY = 1 << 6
COMMAND_SERR = 1 << 8
COMMAND_INTX_DISABLE = 1 << 10
COMMAND_WRITE = (
    COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE
)
STATUS_CAPABILITIES = 1 << 4
STATUS_W1C = 0xF900
"""Parity, SERR, master and target abort: bits 15:11 and 8."""

BAR_64BIT = 0b100
BAR_PREFETCHABLE = 0b1000


@dataclass(frozen=True, slots=True)
class Bar:
    """A memory BAR of ``size`` bytes (a power of two, 16 or more); a 64-bit one takes two slots."""

    size: int
    is_64bit: bool = True
    prefetchable: bool = False

    @property
    def flags(self) -> int:
        """The read-only low bits."""
        return BAR_64BIT * self.is_64bit | BAR_PREFETCHABLE * self.prefetchable


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the function is; ``class_code`` is 24 bits: class, subclass, programming interface."""

    vendor_id: int
    device_id: int
    class_code: int
    revision: int = 0
    subsystem_vendor_id: int = 0
    subsystem_id: int = 0

    def check(self) -> None:
        """Raises :class:`BadDeviceError` for a number that does not fit its register."""
        for name, limit in (
            ("vendor_id", 0xFFFF),
            ("device_id", 0x10000),
            ("class_code", 0x1000000),
            ("revision", 0x100),
            ("subsystem_vendor_id", 0x10000),
            ("subsystem_id", 0x10000),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < limit:
                raise BadDeviceError(
                    f"{name} is {value!r}: need an integer from 0 to {limit - 1:#x}"
                )


def check_bars(bars: Mapping[int, Bar]) -> None:
    """Raises :class:`BadDeviceError` for a BAR that cannot be, or that lies on another one."""
    for index, bar in bars.items():
        if not isinstance(bar, Bar):
            raise BadDeviceError(f"bars[{index}] is {bar!r}: write Bar(size=...)")
        _check_bar(index, bar)
        if bar.is_64bit and (index + 1 == BAR_COUNT or index + 1 in bars):
            raise BadDeviceError(
                f"BAR {index} is 64 bits wide and needs slot {index + 1} too: "
                "move one of them or give is_64bit=False"
            )


def _check_bar(index: int, bar: Bar) -> None:
    if index not in range(BAR_COUNT):
        raise BadDeviceError(f"there is no BAR {index!r}: a function has BARs 0 to {BAR_COUNT - 1}")
    limit = LARGEST_BAR if bar.is_64bit else LARGEST_32BIT_BAR
    if bar.size not in range(SMALLEST_BAR, limit + 1) or bar.size & (bar.size - 1):
        raise BadDeviceError(
            f"BAR {index} has {bar.size!r} bytes: need a power of two "
            f"from {SMALLEST_BAR} to {limit:#x}"
        )


def bar_registers(index: int, bar: Bar) -> list[Register]:
    """The one or two registers of a BAR; sizing works because bits below the size are read-only."""
    mask = ~(bar.size - 1)
    offset = 0x10 + 4 * index
    low = Register(f"bar{index}", offset, 4, reset=bar.flags, write=mask & 0xFFFFFFFF)
    if not bar.is_64bit:
        return [low]
    return [low, Register(f"bar{index}.high", offset + 4, 4, write=mask >> 32 & 0xFFFFFFFF)]


def type0_header(
    identity: Identity, bars: Mapping[int, Bar], first_capability: int
) -> list[Register]:
    """The 64-byte header; no INTx pin, no expansion ROM, no I/O space.

    Raises:
        BadDeviceError: ``identity`` or ``bars`` cannot be.
    """
    identity.check()
    check_bars(bars)
    fixed = [
        Register("vendor_id", 0x00, 2, identity.vendor_id),
        Register("device_id", 0x02, 2, identity.device_id),
        Register("command", 0x04, 2, write=COMMAND_WRITE),
        Register("status", 0x06, 2, STATUS_CAPABILITIES, w1c=STATUS_W1C),
        Register("revision", 0x08, 1, identity.revision),
        Register("class_code", 0x09, 3, identity.class_code),
        Register("cache_line_size", 0x0C, 1, write=0xFF),
        Register("subsystem_vendor_id", 0x2C, 2, identity.subsystem_vendor_id),
        Register("subsystem_id", 0x2E, 2, identity.subsystem_id),
        Register("capabilities", 0x34, 1, first_capability),
        Register("interrupt_line", 0x3C, 1, write=0xFF),
    ]
    return fixed + [r for index, bar in sorted(bars.items()) for r in bar_registers(index, bar)]
