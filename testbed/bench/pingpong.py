# SPDX-License-Identifier: MIT
"""The floor under every trapped access: two processes that play ping-pong over a UNIX socket.

A register read or a map of the guest is one message to the device process and one back. This
measures the same with nothing in between: same message sizes, same kind of socket, no work.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from dataclasses import dataclass

import numpy as np

#: Bytes to the device and back: REGION_READ of 4 bytes, then DMA_MAP and DMA_UNMAP
#: (vfio-user specification, "Message Format": 16-byte header and the command's own part).
MESSAGES = {"register read": ((32, 36),), "map + unmap": ((48, 16), (40, 40))}


@dataclass(frozen=True)
class RoundTrip:
    """One exchange: what it stands for, median and 90th percentile in ns."""

    name: str
    median_ns: float
    p90_ns: float


def _answer(peer: socket.socket, exchanges: tuple[tuple[int, int], ...]) -> None:
    while True:
        for request, reply in exchanges:
            if not peer.recv(request, socket.MSG_WAITALL):
                return
            peer.sendall(bytes(reply))


def measure(name: str, rounds: int = 5000) -> RoundTrip:
    """Plays ``rounds`` times the exchanges of ``MESSAGES[name]`` with a process of its own."""
    exchanges = MESSAGES[name]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(ours, theirs, name))
    process.start()
    theirs.close()
    try:
        times = [_play(ours, exchanges) for _ in range(rounds + rounds // 10)]
    finally:
        ours.close()
        process.join()
    settled = np.array(times[rounds // 10 :])
    return RoundTrip(name, float(np.median(settled)), float(np.percentile(settled, 90)))


def _serve(ours: socket.socket, theirs: socket.socket, name: str) -> None:
    ours.close()
    _answer(theirs, MESSAGES[name])


def _play(ours: socket.socket, exchanges: tuple[tuple[int, int], ...]) -> int:
    start = time.perf_counter_ns()
    for request, reply in exchanges:
        ours.sendall(bytes(request))
        ours.recv(reply, socket.MSG_WAITALL)
    return time.perf_counter_ns() - start
