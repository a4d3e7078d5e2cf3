# SPDX-License-Identifier: MIT
"""Feeds one of QEMU's own NICs: test frames as datagrams, as fast as they are taken.

A datagram socket blocks its sender when the receiver's queue is full, so nothing is lost on the
way and the NIC is never short of frames. (QEMU's stream backend queues without bound instead.)
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
import struct
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig

#: Frames made beforehand and sent over and over.
_STOCK = 1024
#: Sent between two looks at whether to stop.
_BURST = 64
#: How long to wait for room, or for a receiver, before looking at whether to stop.
_STALL_S = 0.1
_STALL = struct.pack("ll", 0, round(_STALL_S * 1e6))  # a struct timeval


class Feeder:
    """Sends frames of ``length`` bytes from the socket ``ours`` to ``theirs`` until stopped.

    Use it as a context manager. It binds ``ours``, QEMU binds ``theirs``, in either order.
    """

    def __init__(self, ours: Path, theirs: Path, length: int, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop: Event = context.Event()
        self._flows: Event = context.Event()
        self._process: BaseProcess = context.Process(
            target=_feed, args=(ours, theirs, length, seed, self._stop, self._flows), daemon=True
        )

    def __enter__(self) -> Feeder:
        self._process.start()
        return self

    def await_flow(self, timeout_s: float) -> bool:
        """Whether frames have begun to flow; waits for that up to ``timeout_s``."""
        return self._flows.wait(timeout_s)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _feed(ours: Path, theirs: Path, length: int, seed: int, stop: Event, flows: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever stops us
    generator = Generator(GeneratorConfig(seed=seed, sizes=Fixed(length), flows=4))
    frames = list(generator.receive(_STOCK, 0))
    ours.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.bind(str(ours))
        # Not settimeout: Python would then ask for room before every single frame.
        out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _STALL)
        if _connect(out, theirs, stop):
            _send_all(out, frames, stop, flows)
    ours.unlink(missing_ok=True)


def _connect(out: socket.socket, theirs: Path, stop: Event) -> bool:
    """Waits for the receiver; False if stopped before there is one."""
    while not stop.is_set():
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            out.connect(str(theirs))
            return True
        stop.wait(_STALL_S)
    return False


def _send_all(out: socket.socket, frames: list[bytes], stop: Event, flows: Event) -> None:
    """Until stopped, or the receiver is gone; ``flows`` is set once some were taken."""
    position = 0
    with contextlib.suppress(ConnectionError):
        while not stop.is_set():
            position = _burst(out, frames, position)
            if position and not flows.is_set():
                flows.set()


def _burst(out: socket.socket, frames: list[bytes], position: int) -> int:
    """Sends a few frames from ``position`` on; returns where to go on."""
    for _ in range(_BURST):
        try:
            out.send(frames[position])
        except BlockingIOError:
            return position
        position = (position + 1) % len(frames)
    return position
