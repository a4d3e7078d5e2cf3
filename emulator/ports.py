# SPDX-License-Identifier: MIT
"""How a device reaches its host: the ports that are injected into it, and nothing else.

A device model knows neither sockets nor simulators. It is given a :class:`DmaPort` and an
:class:`IrqPort`; who watches is given to it as an :class:`Observer`. Fault injection wraps these
ports.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DmabedError
from emulator.frames import FrameBatch


class DmaFault(DmabedError):
    """An access of the device was refused: nothing was read or written by it."""

    def __init__(self, iova: int, length: int, write: bool, reason: str) -> None:
        verb = "write" if write else "read"
        super().__init__(f"DMA {verb} of {length} bytes at IOVA {iova:#x} refused: {reason}")
        self.iova, self.length, self.write, self.reason = iova, length, write, reason


class DmaPort(Protocol):
    """Access to host memory by IOVA. Every access is translated and judged when it is made."""

    def read(self, iova: int, length: int) -> bytes:
        """``length`` bytes from ``iova``, crossing pages as needed.

        Raises:
            DmaFault: any byte is not mapped for reading; nothing is returned.
        """
        ...

    def write(self, iova: int, data: bytes | NDArray[np.uint8]) -> None:
        """Writes all of ``data`` (C-contiguous; bytes in ascending order of address).

        Raises:
            DmaFault: any byte is not mapped for writing; then nothing is written.
        """
        ...

    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        """Writes frame ``i`` at ``iovas[i]``; returns bool[n], False where it was refused."""
        ...

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        """Reads ``lengths[i]`` bytes at ``iovas[i]``: copies, and bool[n] as in :meth:`scatter`.

        A refused read yields ``lengths[i]`` zero bytes.
        """
        ...


class IrqPort(Protocol):
    """Message-signalled interrupts of one device."""

    def raise_vector(self, vector: int) -> None:
        """Asks for MSI-X ``vector``; a masked one stays pending, an unknown one is ignored."""
        ...


class RingKind(Enum):
    """The four rings of a queue pair."""

    __hash__ = object.__hash__  # members are single: Enum's own, in Python, costs a microsecond

    RX_DESC = "rx descriptors"
    RX_CQ = "rx completions"
    TX_DESC = "tx descriptors"
    TX_CQ = "tx completions"


class Observer(Protocol):
    """Told by a device what belongs to it and when: the RING signal of the ledger's rules.

    Times are ns on the clock that the device is stepped with.
    """

    def ring_started(self, now_ns: int, queue: int, kind: RingKind, iova: int, size: int) -> None:
        """The ring of ``size`` bytes at ``iova`` belongs to the device."""
        ...

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        """The ring, and every buffer still posted on it, belongs to the driver again."""
        ...

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Buffers were handed to the device by descriptors it has fetched."""
        ...

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Buffers go back to the driver: told BEFORE the completions become visible to it."""
        ...

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        """``count`` frames were completed (RX_CQ: delivered, TX_CQ: sent)."""
        ...

    def armed(self, now_ns: int, queue: int, seen: int, done: int, sizes: tuple[int, int]) -> None:
        """The driver wrote ARM of ``queue``.

        seen: what it wrote, done: the device's own counts in the same layout (receive completions
        in bits 15:0, transmit in 31:16). sizes: entries of both completion rings, 0 if stopped.
        """
        ...

    def note(self, now_ns: int, value: int) -> None:
        """The driver wrote ``value`` to NOTE: 1 bound, 2 all memory given back, 3 gone."""
        ...
