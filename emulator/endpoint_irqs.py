# SPDX-License-Identifier: MIT
"""The interrupts of an endpoint on the client's side: event descriptors, and what masks them.

A client is not trusted: what it passes for an event descriptor is made non-blocking, so that
nothing it can pass makes the device wait.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from errno import EINVAL

from emulator.ledger.facts import VectorsChanged
from emulator.pci.msix import Msix
from emulator.vfio_user.device import IrqAction, IrqInfo, IrqSet
from emulator.vfio_user.errors import VfioUserError
from emulator.vfio_user.messages import IrqFlag, PciIrq

_MSIX = int(PciIrq.MSIX)
_NOTICES = (int(PciIrq.ERR), int(PciIrq.REQ))


class IrqLines:
    """The event descriptors of a client, by interrupt type and number.

    MSI-X is masked and remembered by ``msix``. The two notices, "error" and "please let go of the
    device", are single descriptors that only ACTION_TRIGGER of the client itself signals: a signal
    of either makes QEMU stop or unplug.
    """

    def __init__(self, msix: Msix, notify: Callable[[int], None]) -> None:
        self._msix, self._notify = msix, notify
        self._fds: dict[tuple[int, int], int] = {}

    def describe(self, index: int) -> IrqInfo:
        """Interrupt type ``index`` as the client is told of it."""
        if index == _MSIX and self._msix.vectors:
            return IrqInfo(self._msix.vectors, IrqFlag.EVENTFD | IrqFlag.MASKABLE)
        if index in _NOTICES:
            return IrqInfo(1, IrqFlag.EVENTFD)
        return IrqInfo()

    def signal(self, vector: int) -> None:
        """Sends MSI-X ``vector``; nothing happens without a descriptor."""
        fd = self._fds.get((_MSIX, vector))
        if fd is not None:
            self._notify(fd)

    def apply(self, request: IrqSet) -> None:
        """Does what DEVICE_SET_IRQS asks for; its descriptors are kept.

        Raises:
            VfioUserError: EINVAL for descriptors that would tell of masking; nothing was kept.
        """
        if request.disables_all:
            self._disable(request.index)
        elif request.fds is not None:
            self._assign(request.index, request)
        elif request.action is IrqAction.TRIGGER:
            self._trigger(request.index, request.selected())
        elif request.index == _MSIX:
            self._msix.hold(request.selected(), request.action is IrqAction.MASK)

    def close(self) -> None:
        """Takes every descriptor away and closes it."""
        for index in (_MSIX, *_NOTICES):
            self._disable(index)

    def _disable(self, index: int) -> None:
        if index == _MSIX:
            self._msix.disable()
        for key in [key for key in self._fds if key[0] == index]:
            os.close(self._fds.pop(key))

    def _assign(self, index: int, request: IrqSet) -> None:
        if request.action is not IrqAction.TRIGGER:
            raise VfioUserError(EINVAL, "event descriptors tell of interrupts, not of masking")
        numbers = range(request.start, request.start + request.count)
        for number in numbers:
            old = self._fds.pop((index, number), None)
            if old is not None:
                os.close(old)
        for number, fd in zip(numbers, request.fds or (), strict=False):
            with contextlib.suppress(OSError):
                os.set_blocking(fd, False)
            self._fds[index, number] = fd
        if index == _MSIX:
            self._msix.set_trigger(numbers, present=bool(request.fds))

    def _trigger(self, index: int, numbers: Iterable[int]) -> None:
        """The client tries its own handlers out, as VFIO lets it."""
        for number in numbers:
            if index == _MSIX:
                self._msix.raise_vector(number)
            elif (index, number) in self._fds:
                self._notify(self._fds[index, number])


def change_asked(request: IrqSet, vectors: int) -> VectorsChanged | None:
    """What a request changes about MSI-X, which has ``vectors`` of them; None: nothing."""
    if request.index != _MSIX:
        return None
    if request.disables_all:
        return VectorsChanged(tuple(range(vectors)), enabled=False, masked=False)
    if request.fds is not None:
        numbers = tuple(range(request.start, request.start + request.count))
        return VectorsChanged(numbers, enabled=bool(request.fds))
    if request.action is IrqAction.TRIGGER:
        return None
    return VectorsChanged(tuple(request.selected()), masked=request.action is IrqAction.MASK)
