# SPDX-License-Identifier: MIT
"""What each command does, and the table that says which commands a session knows in which state.

A handler takes a whole message and returns the reply: bytes, a :class:`Reply` if descriptors go
with it, or None if the reply comes later. It raises to refuse. Descriptors that it leaves in
``message.fds`` are closed after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from errno import EINVAL, EIO, ENOTSUP, ENOTTY
from typing import TYPE_CHECKING, TypeAlias

from emulator.vfio_user import messages as wire
from emulator.vfio_user.capabilities import negotiate
from emulator.vfio_user.errors import HandshakeError, VfioUserError
from emulator.vfio_user.framing import Message
from emulator.vfio_user.messages import Command, RegionFlag

if TYPE_CHECKING:
    from emulator.vfio_user.session import Session

_unpack_access = wire.REGION_ACCESS.unpack_from
_pack_region_reply = wire.REGION_REPLY.pack
_ACCESS_SIZE = wire.REGION_ACCESS.size
_REPLY_SIZE = wire.REGION_REPLY.size
_READ, _WRITE = int(RegionFlag.READ), int(RegionFlag.WRITE)


class State(Enum):
    """Where the conversation stands."""

    AWAITING_VERSION = "awaiting VERSION"
    RUNNING = "running"
    CLOSED = "closed"


@dataclass(slots=True)
class Reply:
    """Send ``data`` with copies of ``fds``, which stay the device's."""

    data: bytes
    fds: tuple[int, ...] = ()


Answer: TypeAlias = bytes | Reply | None
Handler: TypeAlias = "Callable[[Session, Message, int], Answer]"


def _no_fds(message: Message) -> None:
    if message.fds:
        raise VfioUserError(
            EINVAL, f"command {message.command} with {len(message.fds)} descriptors, it takes none"
        )


def _version(session: Session, message: Message, now_ns: int) -> Answer:
    try:
        _no_fds(message)
        agreed, payload = negotiate(bytes(message.body), session.offer)
    except VfioUserError as error:
        raise HandshakeError(error.errno, error.reason) from error
    session.begin(agreed)
    return wire.reply(message.msg_id, message.command, payload)


def _version_again(session: Session, message: Message, now_ns: int) -> Answer:
    raise VfioUserError(EINVAL, "a second VERSION")


def _dma_map(session: Session, message: Message, now_ns: int) -> Answer:
    return session.dma.map(message, now_ns)


def _dma_unmap(session: Session, message: Message, now_ns: int) -> Answer:
    if message.fds:
        _no_fds(message)
    return session.dma.unmap(message, now_ns)


def _device_info(session: Session, message: Message, now_ns: int) -> Answer:
    _no_fds(message)
    payload = session.catalogue.device_info(message.body)
    return wire.reply(message.msg_id, message.command, payload)


def _region_info(session: Session, message: Message, now_ns: int) -> Answer:
    _no_fds(message)
    payload, fds = session.catalogue.region_info(message.body, session.agreed.max_msg_fds > 0)
    return Reply(wire.reply(message.msg_id, message.command, payload), fds)


def _region_io_fds(session: Session, message: Message, now_ns: int) -> Answer:
    _no_fds(message)
    payload = session.catalogue.region_io_fds(message.body)
    return wire.reply(message.msg_id, message.command, payload)


def _irq_info(session: Session, message: Message, now_ns: int) -> Answer:
    _no_fds(message)
    payload = session.catalogue.irq_info(message.body)
    return wire.reply(message.msg_id, message.command, payload)


def _set_irqs(session: Session, message: Message, now_ns: int) -> Answer:
    if len(message.fds) > session.offer.max_msg_fds:
        raise VfioUserError(
            EINVAL, f"{len(message.fds)} descriptors, {session.offer.max_msg_fds} are taken"
        )
    session.device.set_irqs(session.catalogue.irq_set(message.body, message.fds))
    message.fds.clear()  # they are the device's now
    return wire.reply(message.msg_id, message.command)


def _region_read(session: Session, message: Message, now_ns: int) -> Answer:
    msg_id, command, _, _, body, fds = message
    if len(body) != _ACCESS_SIZE or fds:
        raise VfioUserError(EINVAL, f"REGION_READ of {len(body)} bytes, {len(fds)} descriptors")
    offset, region, count = _unpack_access(body)
    session.check_transfer(count)
    session.catalogue.check_access(region, offset, count, _READ)
    data = session.device.region_read(region, offset, count) if count else b""
    if len(data) != count:
        raise VfioUserError(EIO, f"the device read {len(data)} bytes, not {count}")
    size = _REPLY_SIZE + count
    return (
        _pack_region_reply(msg_id, command, size, wire.TYPE_REPLY, 0, offset, region, count) + data
    )


def _region_write(session: Session, message: Message, now_ns: int) -> Answer:
    msg_id, command, flags, _, body, fds = message
    if len(body) < _ACCESS_SIZE or fds:
        raise VfioUserError(EINVAL, f"REGION_WRITE of {len(body)} bytes, {len(fds)} descriptors")
    offset, region, count = _unpack_access(body)
    if len(body) != _ACCESS_SIZE + count:
        raise VfioUserError(EINVAL, f"REGION_WRITE of {count} bytes with {len(body)} bytes")
    session.check_transfer(count)
    session.catalogue.check_access(region, offset, count, _WRITE)
    if count:
        session.device.region_write(region, offset, body[_ACCESS_SIZE:])
    if flags & wire.NO_REPLY:
        return None
    return _pack_region_reply(
        msg_id, command, _REPLY_SIZE, wire.TYPE_REPLY, 0, offset, region, count
    )


def _region_write_multi(session: Session, message: Message, now_ns: int) -> Answer:
    """Writes of up to 8 bytes each: all are checked before the first is done."""
    _no_fds(message)
    body, one = message.body, wire.WRITE_ONE
    first = wire.WRITE_MULTI_COUNT.size
    count = wire.WRITE_MULTI_COUNT.unpack_from(body)[0] if len(body) >= first else -1
    if len(body) != first + count * one.size:
        raise VfioUserError(EINVAL, f"REGION_WRITE_MULTI of {count} in {len(body)} bytes")
    writes = list(one.iter_unpack(body[first:]))
    for offset, region, length, data in writes:
        if length > len(data):
            raise VfioUserError(EINVAL, f"REGION_WRITE_MULTI with a write of {length} bytes")
        session.catalogue.check_access(region, offset, length, _WRITE)
    for offset, region, length, data in writes:
        if length:
            session.device.region_write(region, offset, memoryview(data)[:length])
    return wire.reply(message.msg_id, message.command, wire.WRITE_MULTI_COUNT.pack(count))


def _reset(session: Session, message: Message, now_ns: int) -> Answer:
    _no_fds(message)
    if message.body:
        raise VfioUserError(EINVAL, f"DEVICE_RESET with {len(message.body)} bytes, it has none")
    if not session.catalogue.info.flags & wire.DeviceFlag.RESET:
        raise VfioUserError(ENOTSUP, "the device cannot be reset")
    session.device.reset(now_ns)
    return wire.reply(message.msg_id, message.command)


def _no_feature(session: Session, message: Message, now_ns: int) -> Answer:
    """All features of the protocol are for migration; VFIO says ENOTTY to an unknown one."""
    raise VfioUserError(ENOTTY, "no device features: migration is not supported")


def _no_migration(session: Session, message: Message, now_ns: int) -> Answer:
    raise VfioUserError(ENOTSUP, f"{Command(message.command).name}: migration is not supported")


def _wrong_way(session: Session, message: Message, now_ns: int) -> Answer:
    raise VfioUserError(EINVAL, f"{Command(message.command).name} goes from server to client")


# What is not here is refused: with a closed connection before VERSION, with ENOSYS after it.
# VERSION is the only command that leads from one state to another; any state is left for CLOSED
# when the client goes or the stream cannot be trusted.
COMMANDS: Mapping[State, Mapping[int, Handler]] = {
    State.AWAITING_VERSION: {Command.VERSION: _version},
    State.RUNNING: {
        Command.VERSION: _version_again,
        Command.DMA_MAP: _dma_map,
        Command.DMA_UNMAP: _dma_unmap,
        Command.DEVICE_GET_INFO: _device_info,
        Command.DEVICE_GET_REGION_INFO: _region_info,
        Command.DEVICE_GET_REGION_IO_FDS: _region_io_fds,
        Command.DEVICE_GET_IRQ_INFO: _irq_info,
        Command.DEVICE_SET_IRQS: _set_irqs,
        Command.REGION_READ: _region_read,
        Command.REGION_WRITE: _region_write,
        Command.REGION_WRITE_MULTI: _region_write_multi,
        Command.DMA_READ: _wrong_way,
        Command.DMA_WRITE: _wrong_way,
        Command.DEVICE_RESET: _reset,
        Command.DIRTY_PAGES: _no_migration,
        Command.DEVICE_FEATURE: _no_feature,
        Command.MIG_DATA_READ: _no_migration,
        Command.MIG_DATA_WRITE: _no_migration,
    },
    State.CLOSED: {},
}
