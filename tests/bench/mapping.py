# SPDX-License-Identifier: MIT
"""A map and an unmap from message to reply: what the device process adds to the socket's own cost.

Client and server are in this process, so a number is CPU time of receive, handling and send. Run as
a program it prints ns a pair: the whole, and a receive and a send with nothing in between:

    .venv/bin/python -m tests.bench.mapping [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import mmap
import os
import pstats
import socket
import statistics
import time
from collections.abc import Sequence

from emulator.endpoint import Endpoint
from emulator.iommu.latency import LatencyModel
from emulator.ledger import Ledger
from emulator.nic.config import NicConfig
from emulator.nic_device import NicDevice
from emulator.vfio_user import messages as wire
from emulator.vfio_user.connection import Connection
from emulator.vfio_user.session import Session
from testbed.cable import Cable

PAGE = mmap.PAGESIZE
KEPT = 2048
"""Pages that stay mapped, as a driver's rings and pool do."""
_CHUNK = 4096
_VERSION = wire.VERSION_DECL.build({"major": 0, "minor": 0, "data": b"{}\0"})


class MapRig:
    """A NIC behind a connection, and its client."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.ledger = Ledger(lambda: self.now_ns)
        device = NicDevice(NicConfig(mac=bytes.fromhex("02dbed00000a")), Cable())
        self.endpoint = Endpoint(device, "nic", self.ledger, LatencyModel(), self._clock)
        self.client, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection = Connection(theirs, Session(self.endpoint))
        self.memory = os.memfd_create("bench-guest", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory, 64 << 20)
        self._ask(wire.encode(0, wire.Command.VERSION, _VERSION))
        for page in range(KEPT):
            self.send_map(page)
            self.serve()

    def _clock(self) -> int:
        return self.now_ns

    def _ask(self, message: bytes) -> None:
        self.client.sendall(message)
        self.serve()

    def send_map(self, page: int) -> None:
        """A DMA_MAP of one page with a descriptor, as QEMU sends it."""
        body = wire.DMA_MAP.pack(wire.DMA_MAP.size, 3, page * PAGE, _iova(page), PAGE)
        message = wire.encode(1, wire.Command.DMA_MAP, body)
        socket.send_fds(self.client, [message], [self.memory])

    def send_unmap(self, page: int) -> None:
        """The DMA_UNMAP of it."""
        body = wire.DMA_UNMAP.pack(wire.DMA_UNMAP.size, 0, _iova(page), PAGE)
        self.client.sendall(wire.encode(2, wire.Command.DMA_UNMAP, body))

    def serve(self) -> bytes:
        """The server handles what was sent; returns its reply."""
        self.now_ns += 1000
        self.connection.service(self.now_ns)
        return self.client.recv(_CHUNK)

    def run(self, pairs: int) -> float:
        """CPU ns of the server for a pair."""
        spent = 0
        for _ in range(pairs):
            for send in (self.send_map, self.send_unmap):
                send(KEPT)
                self.now_ns += 1000
                start = time.process_time_ns()
                self.connection.service(self.now_ns)
                spent += time.process_time_ns() - start
                reply = self.client.recv(_CHUNK)
                assert not wire.HEADER.unpack_from(reply)[3] & wire.ERROR
        return spent / pairs

    def floor(self, pairs: int) -> float:
        """CPU ns of the same receives and sends, and of closing the descriptor, with no work."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        buffer, spent = bytearray(_CHUNK), 0
        for _ in range(pairs):
            for fds, size, answer in (([self.memory], 48, 16), ([], 40, 40)):
                socket.send_fds(ours, [bytes(size)], fds)
                start = time.process_time_ns()
                _, ancillary, _, _ = theirs.recvmsg_into((buffer,), 1024, socket.MSG_CMSG_CLOEXEC)
                for _, _, data in ancillary:
                    os.close(int.from_bytes(data, "little"))
                theirs.send(bytes(answer))
                spent += time.process_time_ns() - start
                ours.recv(_CHUNK)
        ours.close()
        theirs.close()
        return spent / pairs

    def close(self) -> None:
        """Ends the session and closes everything."""
        self.connection.close("done", self.now_ns)
        self.client.close()
        os.close(self.memory)


def _iova(page: int) -> int:
    return (1 << 32) - (page + 1) * PAGE


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--pairs", type=int, default=5000)
    chosen = parser.parse_args(arguments)
    rig = MapRig()
    rig.run(1000)
    gc.freeze()  # as the device process does
    if chosen.profile:
        profile = cProfile.Profile()
        profile.runcall(rig.run, chosen.pairs)
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    whole, floor = [], []
    for _ in range(9):
        whole.append(rig.run(chosen.pairs))
        floor.append(rig.floor(chosen.pairs))
    print(
        f"map + unmap: {statistics.median(whole):.0f} ns (from {min(whole):.0f}), receive and send "
        f"alone {statistics.median(floor):.0f} (from {min(floor):.0f})"
    )
    rig.close()


if __name__ == "__main__":
    main()
