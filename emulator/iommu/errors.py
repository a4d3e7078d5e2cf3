# SPDX-License-Identifier: MIT
"""Refusals of the address space, each with the errno a vfio-user server answers."""

from __future__ import annotations

import errno
from typing import ClassVar

from emulator.errors import DmabedError


class MappingError(DmabedError):
    """A map or unmap was refused and changed nothing; ``errno`` is what the client is told."""

    errno: ClassVar[int] = errno.EINVAL


class ZeroSizeError(MappingError):
    """A range of no bytes."""


class WrapAroundError(MappingError):
    """A range that leaves the 64-bit address space."""


class UnalignedError(MappingError):
    """An IOVA, size or file offset that is no multiple of the page size."""


class NoPermissionError(MappingError):
    """A mapping for neither reading nor writing."""


class BeyondMemoryError(MappingError):
    """A mapping of bytes that the file behind it does not have."""


class OverlapError(MappingError):
    """A mapping over one that is alive (VFIO type1 answers the same errno)."""

    errno: ClassVar[int] = errno.EEXIST


class PartialUnmapError(MappingError):
    """An unmap that would cut a mapping in two (refused as by VFIO type1 v2)."""


class TooManyMappingsError(MappingError):
    """The space holds as many mappings as its owner allows."""

    errno: ClassVar[int] = errno.ENOSPC
