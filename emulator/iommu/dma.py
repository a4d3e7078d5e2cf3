# SPDX-License-Identifier: MIT
"""DMA of one device: its accesses translated by its address space, judged by its ledger.

Nothing here raises on account of a device's or a driver's mistake but :class:`DmaFault`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.iommu.copy import copy_ranges
from emulator.iommu.mapping import target_of
from emulator.iommu.space import AddressSpace, Piece
from emulator.iommu.tables import all_true
from emulator.ports import DmaFault


class AccessLog(Protocol):
    """Told of every access after it was made: the DMA signal of the ledger's rules."""

    def accessed(
        self,
        now_ns: int,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        ok: NDArray[np.bool_],
        targets: NDArray[np.int64] | None = None,
    ) -> None:
        """Access ``i`` of ``lengths[i]`` bytes at ``iovas[i]`` was made (``ok``) or refused.

        ``targets``: where each landed, packed as in :mod:`emulator.iommu.mapping`. The arrays hold
        this during the call only.
        """
        ...

    def access_refused(self, now_ns: int, iova: int, length: int, write: bool, reason: str) -> None:
        """The access was refused whole, for ``reason``."""
        ...


class RemoteMemory(Protocol):
    """Guest memory that only messages to the client reach. Raises DmaFault when it refuses."""

    def dma_read(self, iova: int, length: int) -> bytes:
        """``length`` bytes from ``iova`` on."""
        ...

    def dma_write(self, iova: int, data: bytes) -> None:
        """Writes ``data`` from ``iova`` on."""
        ...


class NoLog:
    """An :class:`AccessLog` that forgets."""

    def accessed(
        self,
        now_ns: int,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        ok: NDArray[np.bool_],
        targets: NDArray[np.int64] | None = None,
    ) -> None:
        """Does nothing."""

    def access_refused(self, now_ns: int, iova: int, length: int, write: bool, reason: str) -> None:
        """Does nothing."""


class DmaGate:
    """Whether the device may do DMA at all: bus mastering on, power state D0, not in reset.

    The owner of the configuration space sets both; ``why`` says what closed it.
    """

    __slots__ = ("open", "why")

    def __init__(self, open: bool = False, why: str = "bus mastering is off") -> None:
        self.open, self.why = open, why

    def set(self, open: bool, why: str = "") -> None:
        """Opens or closes; ``why`` names the cause, e.g. ``"bus mastering is off"``."""
        self.open, self.why = open, why


class _Run:
    """Consecutive bytes in the ``pieces`` that mappings cut them into, and what the log is told."""

    __slots__ = ("iovas", "lengths", "ok", "pieces", "targets")

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.iovas = np.array([piece.iova for piece in pieces], np.uint64)
        self.lengths = np.array([piece.length for piece in pieces], np.int64)
        where = [target_of(piece.mapping.memory, piece.offset) for piece in pieces]
        self.targets = np.array(where, np.int64)
        self.ok = all_true(len(pieces))

    def become(self, piece: Piece) -> None:
        """Is now this one piece, if it was one before: cheaper than a new object."""
        self.pieces[0] = piece
        self.iovas[0], self.lengths[0] = piece.iova, piece.length
        self.targets[0] = target_of(piece.mapping.memory, piece.offset)


class SpaceDma:
    """The :class:`emulator.ports.DmaPort` of a device behind an address space.

    Args:
        space: what the device can reach.
        ledger_device: told of every access (its ``DeviceLedger``), or None.
        gate: closed: every access is refused.
        remote: reaches memory that came without a file; without it such accesses are refused.

    ``now_ns`` is the time of the accesses to come: the owner sets it before each step.
    """

    def __init__(
        self,
        space: AddressSpace,
        ledger_device: AccessLog | None,
        gate: DmaGate,
        remote: RemoteMemory | None = None,
    ) -> None:
        self.space = space
        self.log: AccessLog = NoLog() if ledger_device is None else ledger_device
        self.gate = gate
        self.remote = remote
        self.now_ns = 0
        self._last_key: tuple[int, int, bool, bool, int] | None = None
        self._last_run = _Run([])

    # ------------------------------------------------------------------ one access
    def read(self, iova: int, length: int) -> bytes:
        """See :meth:`emulator.ports.DmaPort.read`."""
        run = self._run(iova, length, write=False)
        try:
            data = b"".join([self._read_piece(piece) for piece in run.pieces])
        except DmaFault as fault:
            self.log.access_refused(self.now_ns, iova, length, False, fault.reason)
            raise
        self.log.accessed(self.now_ns, run.iovas, run.lengths, False, run.ok, run.targets)
        return data

    def write(self, iova: int, data: bytes | NDArray[np.uint8]) -> None:
        """See :meth:`emulator.ports.DmaPort.write`."""
        view = _bytes_of(data)
        run = self._run(iova, len(view), write=True)
        try:
            for piece in run.pieces:
                start = piece.iova - iova
                self._write_piece(piece, view[start : start + piece.length])
        except DmaFault as fault:
            self.log.access_refused(self.now_ns, iova, len(view), True, fault.reason)
            raise
        self.log.accessed(self.now_ns, run.iovas, run.lengths, True, run.ok, run.targets)

    # ------------------------------------------------------------------ many accesses
    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        """See :meth:`emulator.ports.DmaPort.scatter`."""
        lengths = frames.lengths
        if not self.gate.open:
            return self._refuse_all(iovas, lengths, write=True)
        where = self.space.translate(iovas, lengths, True)
        memory = self.space.memories.get(where.home)
        if memory is None:
            return self._scatter_rows(iovas, frames)
        copy_ranges(memory.array, where.offsets, frames.data, frames.offsets, lengths)
        self.log.accessed(self.now_ns, iovas, lengths, True, where.ok, where.targets)
        return where.ok

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        """See :meth:`emulator.ports.DmaPort.gather`; lengths below 0 count as 0."""
        frames = _zeros(lengths)
        if not self.gate.open:
            return frames, self._refuse_all(iovas, lengths, write=False)
        where = self.space.translate(iovas, lengths, False)
        memory = self.space.memories.get(where.home)
        if memory is None:
            return frames, self._gather_rows(iovas, lengths, frames)
        copy_ranges(frames.data, frames.offsets, memory.array, where.offsets, lengths)
        self.log.accessed(self.now_ns, iovas, lengths, False, where.ok, where.targets)
        return frames, where.ok

    # ------------------------------------------------------------------ helpers
    def _run(self, iova: int, length: int, write: bool) -> _Run:
        """Where consecutive bytes lie.

        A completion ring is written twice at the same place, first without, then with the phase:
        the second time the answer is there, unless something was mapped or unmapped in between.
        """
        key = (iova, length, write, self.gate.open, self.space.changes)
        if key == self._last_key:
            return self._last_run
        pieces = self._pieces(iova, length, write)
        if write and len(pieces) > 1:  # remote ones first: only they can still fail
            pieces.sort(key=lambda piece: piece.mapping.memory is not None)
        self._last_key = key
        if len(pieces) == len(self._last_run.pieces) == 1:
            self._last_run.become(pieces[0])
        else:
            self._last_run = _Run(pieces)
        return self._last_run

    def _pieces(self, iova: int, length: int, write: bool) -> list[Piece]:
        reason = "" if self.gate.open else self.gate.why
        pieces = self.space.split(iova, length, write) if not reason else None
        if pieces is None:
            reason = reason or self._reason(iova, length, write)
            self.log.access_refused(self.now_ns, iova, length, write, reason)
            raise DmaFault(iova, length, write, reason)
        return pieces

    def _reason(self, iova: int, length: int, write: bool) -> str:
        if length <= 0:
            return "no bytes asked for"
        mapping = self.space.find(iova)
        if mapping is None:
            return "not mapped"
        if not (mapping.writable if write else mapping.readable):
            return f"mapped without permission to {'write' if write else 'read'}"
        return f"leaves the mapping {mapping}"

    def _read_piece(self, piece: Piece) -> bytes:
        memory = piece.mapping.memory
        if memory is not None:
            return memory.array[piece.offset : piece.offset + piece.length].tobytes()
        if self.remote is None:
            raise DmaFault(piece.iova, piece.length, False, "memory came without a file")
        return self.remote.dma_read(piece.iova, piece.length)

    def _write_piece(self, piece: Piece, data: memoryview) -> None:
        memory = piece.mapping.memory
        if memory is not None:
            memory.array[piece.offset : piece.offset + piece.length] = data
        elif self.remote is None:
            raise DmaFault(piece.iova, piece.length, True, "memory came without a file")
        else:
            self.remote.dma_write(piece.iova, bytes(data))

    def _refuse_all(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], write: bool
    ) -> NDArray[np.bool_]:
        ok = np.zeros(len(iovas), np.bool_)
        self.log.accessed(self.now_ns, iovas, lengths, write, ok)
        return ok

    def _scatter_rows(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        ok = np.ones(len(iovas), np.bool_)
        for row, (iova, frame) in enumerate(zip(iovas.tolist(), frames, strict=True)):
            try:
                self.write(iova, frame)
            except DmaFault:
                ok[row] = False
        return ok

    def _gather_rows(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], frames: FrameBatch
    ) -> NDArray[np.bool_]:
        ok = np.ones(len(iovas), np.bool_)
        rows = zip(iovas.tolist(), frames.offsets.tolist(), lengths.tolist(), strict=True)
        for row, (iova, start, length) in enumerate(rows):
            try:
                data = self.read(iova, length)
                frames.data[start : start + length] = np.frombuffer(data, np.uint8)
            except DmaFault:
                ok[row] = False
        return ok


def _bytes_of(data: bytes | NDArray[np.uint8]) -> memoryview:
    return data.data.cast("B") if isinstance(data, np.ndarray) else memoryview(data)


def _zeros(lengths: NDArray[np.int64]) -> FrameBatch:
    """Frames of zero bytes."""
    lengths = np.maximum(lengths, 0)
    return FrameBatch(np.zeros(int(lengths.sum()), np.uint8), np.cumsum(lengths) - lengths, lengths)
