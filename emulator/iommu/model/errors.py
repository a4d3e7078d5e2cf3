# SPDX-License-Identifier: MIT
"""What the IOMMU models refuse."""

from __future__ import annotations

from emulator.errors import DmabedError


class ModelError(DmabedError):
    """A model was given something that cannot be; the text says what and what is allowed."""


class IovaSpaceFullError(ModelError):
    """No free range of the size asked for is left below the device's mask."""


class IovaNotAllocatedError(ModelError):
    """A free of a range that nobody holds, or that is free already."""


class TimeBackwardsError(ModelError):
    """An operation dated before one that the same queue has already seen."""


class WindowError(ModelError):
    """A DMA window that is too small, or an address that is outside of it."""
