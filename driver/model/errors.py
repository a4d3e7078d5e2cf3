# SPDX-License-Identifier: MIT
"""What can go wrong in the reference driver, where the C driver returns an errno."""

from __future__ import annotations

from emulator.errors import DmabedError


class DriverError(DmabedError):
    """Base of the driver's errors."""


class ProbeError(DriverError):
    """The device is not one this driver knows, or answers nonsense. Nothing is left allocated."""


class DeviceGoneError(DriverError):
    """The device no longer answers: its registers read as all ones."""


class DeviceStuckError(DriverError):
    """A status bit did not come within its time."""


class NoMemoryError(DriverError):
    """Host memory or IOVAs are short. What had been taken for the attempt is given back."""


class WouldBlockError(DriverError):
    """A coroutine waited for something although its host never waits."""


class BadConfigError(DriverError):
    """Ring sizes, channels or a frame size that this device does not have."""


class HostMemoryError(DriverError):
    """A page was freed twice, or was never given out."""


class DmaApiError(DriverError):
    """An unmap of what is not mapped."""
