# SPDX-License-Identifier: MIT
"""DMA_MAP and DMA_UNMAP: checked, handed to the device, answered now or when their delay is over.

Without a delay a message is answered in one go, and no object is made for it: this is the path
that a guest waits for once per packet when its driver maps every buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EINVAL, ENOTSUP

from emulator.errors import DmabedError
from emulator.vfio_user.capabilities import PAGE_SIZE
from emulator.vfio_user.device import Device
from emulator.vfio_user.dma_queue import DmaQueue
from emulator.vfio_user.errors import VfioUserError, errno_of
from emulator.vfio_user.framing import Message, close_fds
from emulator.vfio_user.messages import (
    DMA_MAP,
    DMA_UNMAP,
    DMA_UNMAP_REPLY,
    HEADER,
    HEADER_SIZE,
    NO_REPLY,
    TYPE_REPLY,
    Command,
    DmaMapFlag,
    DmaUnmapFlag,
    error_reply,
)

_PAGE_MASK = PAGE_SIZE - 1
_ADDRESSES = 1 << 64
_LARGEST_FILE = 1 << 63
_READ, _WRITE = int(DmaMapFlag.READ), int(DmaMapFlag.WRITE)
_PERMISSIONS = _READ | _WRITE
_ALL = int(DmaUnmapFlag.ALL)
_NOT_HERE = int(DmaUnmapFlag.GET_DIRTY_BITMAP | DmaUnmapFlag.VADDR)
_MAP_COMMAND, _UNMAP_COMMAND = int(Command.DMA_MAP), int(Command.DMA_UNMAP)

_unpack_map = DMA_MAP.unpack
_unpack_unmap = DMA_UNMAP.unpack_from
_pack_header = HEADER.pack
_pack_unmap_reply = DMA_UNMAP_REPLY.pack


def _parse_map(body: memoryview, fds: list[int]) -> tuple[int, int, int, int]:
    """``flags, offset, iova, size`` of a DMA_MAP that makes sense.

    Raises:
        VfioUserError: EINVAL.
    """
    if len(body) != DMA_MAP.size:
        raise VfioUserError(EINVAL, f"DMA_MAP of {len(body)} bytes, not {DMA_MAP.size}")
    argsz, flags, offset, iova, size = _unpack_map(body)
    if argsz < DMA_MAP.size or not 0 < flags <= _PERMISSIONS or len(fds) > 1:
        raise VfioUserError(
            EINVAL, f"DMA_MAP with argsz {argsz}, flags {flags:#x}, {len(fds)} descriptors"
        )
    if not size or (iova | size | offset) & _PAGE_MASK:
        raise VfioUserError(EINVAL, f"DMA_MAP {iova:#x}+{size:#x} at {offset:#x} is not in pages")
    if iova + size > _ADDRESSES or offset + size > _LARGEST_FILE:
        raise VfioUserError(EINVAL, f"DMA_MAP {iova:#x}+{size:#x} at {offset:#x} wraps")
    return flags, offset, iova, size


def _parse_unmap(body: memoryview) -> tuple[int, int, int, int]:
    """``argsz, flags, iova, size`` of a DMA_UNMAP that makes sense.

    Raises:
        VfioUserError: EINVAL; ENOTSUP for a dirty bitmap, which belongs to migration.
    """
    if len(body) < DMA_UNMAP.size:
        raise VfioUserError(EINVAL, f"DMA_UNMAP of {len(body)} bytes, {DMA_UNMAP.size} are needed")
    argsz, flags, iova, size = _unpack_unmap(body)
    if flags & _NOT_HERE:
        raise VfioUserError(ENOTSUP, f"DMA_UNMAP with flags {flags:#x}: no migration here")
    if argsz < DMA_UNMAP.size or flags & ~_ALL or len(body) > DMA_UNMAP.size:
        raise VfioUserError(
            EINVAL, f"DMA_UNMAP of {len(body)} bytes with argsz {argsz}, flags {flags:#x}"
        )
    if flags:
        if iova or size:
            raise VfioUserError(EINVAL, f"DMA_UNMAP of everything with range {iova:#x}+{size:#x}")
    elif not size or (iova | size) & _PAGE_MASK or iova + size > _ADDRESSES:
        raise VfioUserError(EINVAL, f"DMA_UNMAP {iova:#x}+{size:#x} is no range of pages")
    return argsz, flags, iova, size


@dataclass(slots=True)
class _Map:
    """A DMA_MAP that waits for its turn, then for its delay."""

    device: Device
    msg_id: int
    no_reply: int
    flags: int
    offset: int
    iova: int
    size: int
    fds: list[int]

    def start(self, now_ns: int) -> int:
        try:
            return self.device.dma_map(
                self.iova,
                self.size,
                bool(self.flags & _READ),
                bool(self.flags & _WRITE),
                self.offset,
                self.fds[0] if self.fds else None,
                now_ns,
            )
        finally:
            self.drop()

    def finish(self, now_ns: int) -> bytes | None:
        if self.no_reply:
            return None
        return _pack_header(self.msg_id, _MAP_COMMAND, HEADER_SIZE, TYPE_REPLY, 0)

    def refusal(self, error: DmabedError) -> bytes | None:
        return None if self.no_reply else error_reply(self.msg_id, _MAP_COMMAND, errno_of(error))

    def drop(self) -> None:
        close_fds(self.fds)
        self.fds.clear()


@dataclass(slots=True)
class _Unmap:
    """A DMA_UNMAP that waits for its turn, then for its delay."""

    device: Device
    msg_id: int
    no_reply: int
    argsz: int
    flags: int
    iova: int
    size: int

    def start(self, now_ns: int) -> int:
        return self.device.dma_unmap_begin(self.iova, self.size, bool(self.flags), now_ns)

    def finish(self, now_ns: int) -> bytes | None:
        self.device.dma_unmap_finish(self.iova, self.size, bool(self.flags), now_ns)
        if self.no_reply:
            return None
        return _unmap_reply(self.msg_id, self.argsz, self.flags, self.iova, self.size)

    def refusal(self, error: DmabedError) -> bytes | None:
        return None if self.no_reply else error_reply(self.msg_id, _UNMAP_COMMAND, errno_of(error))

    def drop(self) -> None:
        """It holds nothing."""


def _unmap_reply(msg_id: int, argsz: int, flags: int, iova: int, size: int) -> bytes:
    """The request is sent back (section "VFIO_USER_DMA_UNMAP")."""
    length = HEADER_SIZE + DMA_UNMAP.size
    return _pack_unmap_reply(
        msg_id, _UNMAP_COMMAND, length, TYPE_REPLY, 0, argsz, flags, iova, size
    )


class DmaCommands:
    """Takes the two messages for one device. ``queue`` releases the replies that are delayed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.queue = DmaQueue()

    def map(self, message: Message, now_ns: int) -> bytes | None:
        """The reply to a DMA_MAP, or None if it comes later out of the queue."""
        msg_id, command, header_flags, _, body, fds = message
        flags, offset, iova, size = _parse_map(body, fds)
        if self.queue.busy:
            mine = fds.copy()  # the operation closes them from now on
            fds.clear()
            no_reply = header_flags & NO_REPLY
            waiting = _Map(self._device, msg_id, no_reply, flags, offset, iova, size, mine)
            self.queue.wait(waiting, now_ns)
            return None
        delay_ns = self._device.dma_map(
            iova,
            size,
            flags & _READ != 0,
            flags & _WRITE != 0,
            offset,
            fds[0] if fds else None,
            now_ns,
        )
        if delay_ns <= 0:
            return _pack_header(msg_id, command, HEADER_SIZE, TYPE_REPLY, 0)
        no_reply = header_flags & NO_REPLY
        running = _Map(self._device, msg_id, no_reply, flags, offset, iova, size, [])
        self.queue.run(running, now_ns + delay_ns)
        return None

    def unmap(self, message: Message, now_ns: int) -> bytes | None:
        """The reply to a DMA_UNMAP, or None if it comes later out of the queue."""
        msg_id, _, header_flags, _, body, _ = message
        argsz, flags, iova, size = _parse_unmap(body)
        if not self.queue.busy:
            delay_ns = self._device.dma_unmap_begin(iova, size, flags != 0, now_ns)
            if delay_ns <= 0:
                self._device.dma_unmap_finish(iova, size, flags != 0, now_ns)
                return _unmap_reply(msg_id, argsz, flags, iova, size)
        no_reply = header_flags & NO_REPLY
        operation = _Unmap(self._device, msg_id, no_reply, argsz, flags, iova, size)
        if self.queue.busy:
            self.queue.wait(operation, now_ns)
        else:
            self.queue.run(operation, now_ns + delay_ns)
        return None
