# SPDX-License-Identifier: MIT
"""A NIC whose completions name a buffer that was never posted, longer than any, if told to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.nic.descriptors import COMPLETION
from emulator.nic_device import NicDevice
from emulator.ports import DmaPort, IrqPort, Observer

NO_BUFFER = 0xFFFF


class LiarPort:
    """The port ``port``, but completions written while ``lying`` have impossible id and length.

    The NIC writes nothing but completions by :meth:`write`.
    """

    def __init__(self, port: DmaPort, lying: bool = False) -> None:
        self._port = port
        self.lying = lying

    def read(self, iova: int, length: int) -> bytes:
        """See :class:`emulator.ports.DmaPort`."""
        return self._port.read(iova, length)

    def write(self, iova: int, data: bytes | NDArray[np.uint8]) -> None:
        """See :class:`emulator.ports.DmaPort`."""
        if self.lying:
            entries = np.frombuffer(bytes(data), COMPLETION.dtype).copy()
            entries["id"] = entries["len"] = NO_BUFFER
            data = entries.view(np.uint8)
        self._port.write(iova, data)

    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        """See :class:`emulator.ports.DmaPort`."""
        return self._port.scatter(iovas, frames)

    def gather(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> tuple[FrameBatch, NDArray[np.bool_]]:
        """See :class:`emulator.ports.DmaPort`."""
        return self._port.gather(iovas, lengths)


class LiarNic(NicDevice):
    """A NIC with such a port; ``port.lying`` may change at any time."""

    port: LiarPort

    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """Puts the liar between the NIC and its host."""
        self.port = LiarPort(dma)
        super().attach(self.port, irq, observer)
