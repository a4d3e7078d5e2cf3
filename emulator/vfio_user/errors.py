# SPDX-License-Identifier: MIT
"""Errors of the vfio-user protocol: refusals with their errno, and what ends a connection."""

from __future__ import annotations

import os
from errno import EIO

from emulator.errors import DmabedError


class VfioUserError(DmabedError):
    """A command is refused: the client gets ``errno`` in the error reply, nothing was changed."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(f"{reason} ({os.strerror(errno)})")
        self.errno = errno
        self.reason = reason


class HandshakeError(VfioUserError):
    """The conversation cannot begin: the client gets the errno, then the connection is closed."""


class ProtocolViolationError(DmabedError):
    """The byte stream can no longer be trusted: the connection has to be closed."""


class ClientGoneError(DmabedError):
    """There is no client, or it went while an answer from it was awaited."""


class DmaTimeoutError(DmabedError):
    """The client did not answer a DMA_READ or DMA_WRITE in time."""


def errno_of(error: DmabedError) -> int:
    """What the client is told of an error: its errno, or EIO for one that has none."""
    return error.errno if isinstance(error, VfioUserError) else EIO
