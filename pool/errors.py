# SPDX-License-Identifier: MIT
"""What a caller of a buffer strategy can do wrong, each with its own name."""

from __future__ import annotations

from emulator.errors import DmabedError


class PoolError(DmabedError):
    """Any misuse of a buffer strategy."""


class PoolClosedError(PoolError):
    """Buffers were asked of a pool that was closed."""


class NotOutstandingError(PoolError):
    """A buffer was given back that was not handed out, or twice: nothing was given back."""


class WrongDomainError(PoolError):
    """A buffer was given to the pool of another domain: nothing was given back."""


class UnknownStrategyError(PoolError):
    """No strategy has that name."""


class MissingPortError(PoolError):
    """A strategy needs more of its allocator or DMA API than the one it was given offers."""
