# SPDX-License-Identifier: MIT
"""A PCI function around a device: power, DMA gate, interrupts and resets, as software asks.

No I/O: bytes and times come in; messages and changes of the DMA gate go out by two callables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from emulator.pci.capabilities import (
    DEVCTL_FLR,
    FIRST_CAPABILITY,
    PM_D3HOT,
    PM_NO_SOFT_RESET,
    PM_STATE,
    Capability,
    advanced_error_reporting,
    chain,
    msix,
    pci_express,
    power_management,
)
from emulator.pci.config_space import Change, ConfigSpace
from emulator.pci.device import MSIX_BAR, PciDevice
from emulator.pci.errors import BadDeviceError
from emulator.pci.header import COMMAND_BUS_MASTER, COMMAND_MEMORY, Bar, type0_header
from emulator.pci.msix import Msix

MSIX_BAR_SIZE = 4096
CLOSED_BY_BUS_MASTER = "bus mastering is off"
CLOSED_BY_POWER = "the function is in D3hot"
CLOSED_BY_RESET = "the function is in reset"


class Host(Protocol):
    """What a function needs of whoever serves it."""

    def deliver(self, vector: int) -> None:
        """Sends the message of MSI-X ``vector``."""
        ...

    def gate_changed(self, is_open: bool, why: str, now_ns: int) -> None:
        """DMA is possible now, or not for the reason ``why``; the device is told next."""
        ...

    def was_reset(self, now_ns: int) -> None:
        """The device went through a reset of the function."""
        ...


class PciFunction:
    """Configuration space, MSI-X and state of ``device``.

    Args:
        device: already attached, or attached before the first call.
        host: see :class:`Host`; the DMA gate is closed at first.

    Raises:
        BadDeviceError: the device's attributes do not make a function.
    """

    def __init__(self, device: PciDevice, host: Host) -> None:
        self.device = device
        self.bars, self.config = declare(device)
        self.msix = Msix(device.msix_vectors, host.deliver)
        self.mmio_on = False
        self.why_closed = CLOSED_BY_BUS_MASTER
        self._host = host
        self._resetting = False
        self._effects: dict[str, Callable[[Change, int], None]] = {
            "command": self._command_written,
            "pm.control": self._power_written,
            "msix.control": self._msix_written,
            "pcie.device_control": self._device_control_written,
        }

    @property
    def gate_open(self) -> bool:
        """Whether the device may do DMA and interrupt."""
        return not self.why_closed

    @property
    def in_d0(self) -> bool:
        """Whether the power state is D0."""
        return self.config["pm.control"] & PM_STATE == 0

    def config_read(self, offset: int, size: int) -> bytes:
        """``size`` bytes of configuration space; ones past its end."""
        return self.config.read(offset, size)

    def config_write(self, offset: int, data: bytes, now_ns: int) -> None:
        """Writes configuration space and does what the changed registers ask for."""
        for change in self.config.write(offset, data):
            effect = self._effects.get(change.name)
            if effect is not None:
                effect(change, now_ns)

    def reset(self, now_ns: int) -> None:
        """A function-level reset: DMA stops first, then the device, then the registers."""
        self._resetting = True
        try:
            self._refresh(now_ns)
            self.device.reset(now_ns)
        finally:
            self.config.reset()
            self.msix.reset()
            self._resetting = False
            self._refresh(now_ns)
            self._host.was_reset(now_ns)

    def _refresh(self, now_ns: int) -> None:
        """Works out anew what the function may do, and tells who has to know, if it changed."""
        command = self.config["command"]
        self.mmio_on = self.in_d0 and bool(command & COMMAND_MEMORY) and not self._resetting
        why = self._closed_by(command)
        if why == self.why_closed:
            return
        was_open, self.why_closed = self.gate_open, why
        self.msix.connect(self.gate_open)
        self._host.gate_changed(self.gate_open, why, now_ns)
        if self.gate_open != was_open:
            self.device.bus_master(self.gate_open, now_ns)

    def _closed_by(self, command: int) -> str:
        if self._resetting:
            return CLOSED_BY_RESET
        if not self.in_d0:
            return CLOSED_BY_POWER
        return "" if command & COMMAND_BUS_MASTER else CLOSED_BY_BUS_MASTER

    def _command_written(self, change: Change, now_ns: int) -> None:
        self._refresh(now_ns)

    def _power_written(self, change: Change, now_ns: int) -> None:
        state, before = change.new & PM_STATE, change.old & PM_STATE
        if state not in (0, PM_D3HOT):
            self.config["pm.control"] = change.old  # D1 and D2 do not exist: the write is dropped
        elif state == 0 and before == PM_D3HOT and not change.new & PM_NO_SOFT_RESET:
            self.reset(now_ns)
        else:
            self._refresh(now_ns)

    def _msix_written(self, change: Change, now_ns: int) -> None:
        self.msix.control(change.new)

    def _device_control_written(self, change: Change, now_ns: int) -> None:
        if change.new & DEVCTL_FLR:
            self.reset(now_ns)


def declare(device: PciDevice) -> tuple[dict[int, Bar], ConfigSpace]:
    """The BARs and the configuration space of ``device``.

    Raises:
        BadDeviceError: its attributes do not make a function.
    """
    bars = _all_bars(device)
    header = type0_header(device.identity, bars, FIRST_CAPABILITY)
    return bars, ConfigSpace([*header, *chain(_capabilities(device))])


def _all_bars(device: PciDevice) -> dict[int, Bar]:
    """The declared BARs and, with vectors, the one of the MSI-X table."""
    bars = dict(device.bars)
    if not device.msix_vectors:
        return bars
    if MSIX_BAR in bars or MSIX_BAR + 1 in bars:
        raise BadDeviceError(
            f"BARs {MSIX_BAR} and {MSIX_BAR + 1} hold the MSI-X table: "
            "use BARs 0 to 3, or set msix_vectors = 0"
        )
    bars[MSIX_BAR] = Bar(MSIX_BAR_SIZE)
    return bars


def _capabilities(device: PciDevice) -> list[Capability]:
    return [
        power_management(device.no_soft_reset),
        *([msix(device.msix_vectors, MSIX_BAR)] if device.msix_vectors else []),
        pci_express(),
        advanced_error_reporting(),
    ]
