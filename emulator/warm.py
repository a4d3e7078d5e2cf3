# SPDX-License-Identifier: MIT
"""Makes every kernel of the packet path ready: a NIC that receives and sends in memory of its own.

``python -m emulator.warm`` compiles what is not yet kept on disk (some seconds, once after setup);
a device process calls :func:`warm_up` before it serves, which then only loads (a fraction of one).
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
from numba.core.dispatcher import Dispatcher

from emulator.frames import FrameBatch
from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import SMALL_MAX, AddressSpace
from emulator.ledger import Ledger
from emulator.nic import registers as r
from emulator.nic.config import RING_LOG2_MIN, NicConfig
from emulator.nic.descriptors import RX_DESC, TX_DESC
from emulator.nic.nic import Nic
from emulator.nic.wire.generator import Generator, GeneratorConfig

_QUEUES = 2
_SIZE = 1 << RING_LOG2_MIN
_PAGE = 4096
_RINGS, _BUFFERS = 0, 1 << 20
_ENDS = (("RX", RX_DESC), ("TX", TX_DESC))


class _Memory:
    index = 0

    def __init__(self) -> None:
        self.array = np.zeros(2 * SMALL_MAX, np.uint8)


class _Irqs:
    def raise_vector(self, vector: int) -> None:
        """Nobody listens."""


class _Wire:
    """Frames of both kinds there are: with bytes that may be written, and with constant ones."""

    def __init__(self) -> None:
        made = Generator(GeneratorConfig(flows=4)).receive(32, 0)
        self._batches = [made, FrameBatch.of(list(made))]

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        return self._batches.pop()[:room] if self._batches else FrameBatch.empty()

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        pass

    def next_due_ns(self, now_ns: int) -> int | None:
        return None


def warm_up() -> None:
    """Receives and sends a few frames, behind single pages and behind one big mapping."""
    for paged in (True, False):
        _run(paged)


def ready_loops() -> Callable[[], int]:
    """Counts the compiled loops that are loaded, of those that exist now, at each call.

    A device process that has warmed up and serves sees no change: a reply never waits for one.
    """
    known = [found for found in gc.get_objects() if isinstance(found, Dispatcher)]
    return lambda: sum(len(dispatcher.overloads) for dispatcher in known)


def _run(paged: bool) -> None:
    memory, space = _Memory(), AddressSpace("warm")
    ledger = Ledger(lambda: 0).device("warm")
    ledger.gate_changed(0, True)
    size = _PAGE if paged else len(memory.array)
    for at in range(0, len(memory.array), size):
        ledger.mapped(0, space.map(at, size, memory, at, True, True, 0))
    config = NicConfig(mac=bytes(6), queues=_QUEUES)
    nic = Nic(config, SpaceDma(space, ledger, DmaGate(True)), _Irqs(), _Wire(), ledger)
    nic.bus_master(True, 0)
    nic.link(True, 0)
    nic.mmio_write(r.DMABED_MAX_FRAME, 1518, 4, 0)
    nic.mmio_write(r.DMABED_RSS_QUEUES, _QUEUES, 4, 0)
    nic.mmio_write(r.DMABED_CTRL, r.DMABED_CTRL_ENABLE, 4, 0)
    for queue in range(_QUEUES):
        _start(nic, memory, queue)
    for _ in range(4):
        nic.step(0)


def _start(nic: Nic, memory: _Memory, queue: int) -> None:
    """Starts both rings of a pair, all buffers posted; one frame is to be sent."""
    for side, (name, layout) in enumerate(_ENDS):
        ring = _RINGS + (queue * len(_ENDS) + side) * 2 * _PAGE
        descs = memory.array[ring : ring + _SIZE * layout.size].view(layout.dtype)
        descs["addr"] = _BUFFERS + np.arange(_SIZE, dtype=np.uint64) * _PAGE
        descs["len"] = 60
        if name == "TX":
            descs["flags"] = r.DMABED_TX_DESC_FLAGS_EOP
        base = r.qp_base(queue)
        for register, value in (
            ("RING_LO", ring), ("CQ_LO", ring + _PAGE), ("SIZE", RING_LOG2_MIN), ("CTRL", 1),
            ("TAIL", _SIZE if name == "RX" else 1),
        ):  # fmt: skip
            nic.mmio_write(base + getattr(r, f"DMABED_QP_{name}_{register}"), value, 4, 0)


if __name__ == "__main__":
    warm_up()
