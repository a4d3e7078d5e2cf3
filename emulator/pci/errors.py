# SPDX-License-Identifier: MIT
"""What can be wrong with the declaration of a PCI function."""

from __future__ import annotations

from emulator.errors import DmabedError


class BadDeviceError(DmabedError):
    """A device's class attributes do not make a PCI function; the text says which and why."""
