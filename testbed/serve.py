# SPDX-License-Identifier: MIT
"""``dmabed serve``: a device of your own on a socket, with the ledger watching."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

from emulator.endpoint import Endpoint
from emulator.iommu.latency import LatencyModel
from emulator.ledger import Ledger, Verdict
from emulator.loader import load_device
from emulator.loop import DeviceLoop
from emulator.seat import DeviceSeat
from emulator.warm import warm_up


def serve(device: str, socket: Path) -> int:
    """Serves ``file.py:Class`` at ``socket`` until interrupted; then prints the verdict.

    Raises:
        DmabedError: the device cannot be loaded, or the socket cannot be listened at.
    """
    warm_up()
    ledger = Ledger(time.monotonic_ns)
    endpoint = Endpoint(load_device(device), Path(device).stem, ledger, LatencyModel())
    seat = DeviceSeat(endpoint, socket)
    properties = {
        "driver": "vfio-user-pci",
        "socket": {"type": "unix", "path": str(socket.absolute())},
    }
    loop = DeviceLoop([seat])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.stop())
    print(f"serving {device}; give QEMU: -device '{json.dumps(properties)}'", flush=True)
    with contextlib.closing(seat):
        loop.run()
    verdict = ledger.verdict()
    print("\n".join([*verdict.summary, _events(verdict)]))
    return 0 if verdict.ok else 3


def _events(verdict: Verdict) -> str:
    """How often each kind of event happened; refused accesses are among them."""
    seen = [f"{count} {name.lower()}" for name, count in verdict.events.items() if count]
    return f"events: {', '.join(seen) or 'none'}"
