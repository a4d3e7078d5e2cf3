# SPDX-License-Identifier: MIT
"""Interrupts of one type by event descriptors, as DEVICE_SET_IRQS sets them up."""

from __future__ import annotations

import os
from errno import ENOTSUP

from emulator.vfio_user.device import IrqAction, IrqSet
from emulator.vfio_user.errors import VfioUserError


class EventFdTable:
    """``count`` interrupts; each may have a descriptor, and stays pending while it is masked."""

    def __init__(self, count: int) -> None:
        self._fds: list[int | None] = [None] * count
        self._masked = [False] * count
        self._pending = [False] * count

    def __len__(self) -> int:
        return len(self._fds)

    def apply(self, request: IrqSet) -> None:
        """Does what a DEVICE_SET_IRQS asks for; its descriptors belong to the table from now on.

        Raises:
            VfioUserError: ENOTSUP for descriptors that would tell of masking; nothing was kept.
        """
        if request.disables_all:
            self.close()
        elif request.fds is not None:
            self._assign(request)
        else:
            act = {
                IrqAction.MASK: self.mask,
                IrqAction.UNMASK: self.unmask,
                IrqAction.TRIGGER: self.trigger,
            }[request.action]
            for number in request.selected():
                act(number)

    def trigger(self, number: int) -> bool:
        """Signals an interrupt; a masked one is remembered. False if nobody was told."""
        if not 0 <= number < len(self._fds):
            return False
        fd = self._fds[number]
        if self._masked[number]:
            self._pending[number] = True
            return False
        if fd is None:
            return False
        try:
            os.eventfd_write(fd, 1)
        except BlockingIOError:
            return True  # its counter is full: it is signalled already
        except OSError:
            return False  # the client gave us something that is no event descriptor
        return True

    def mask(self, number: int) -> None:
        """Holds an interrupt back."""
        self._masked[number] = True

    def unmask(self, number: int) -> None:
        """Lets an interrupt through again, at once if it is pending."""
        self._masked[number] = False
        if self._pending[number]:
            self._pending[number] = False
            self.trigger(number)

    def pending(self, number: int) -> bool:
        """The interrupt was triggered while masked."""
        return self._pending[number]

    def assigned(self, number: int) -> bool:
        """The interrupt has a descriptor."""
        return self._fds[number] is not None

    def close(self) -> None:
        """Takes all descriptors away and closes them; nothing is masked or pending any more."""
        for number in range(len(self._fds)):
            self._replace(number, None)
            self._masked[number] = self._pending[number] = False

    def _assign(self, request: IrqSet) -> None:
        if request.action is not IrqAction.TRIGGER:
            raise VfioUserError(ENOTSUP, "descriptors that tell of masking are not supported")
        fds = request.fds or (None,) * request.count
        for number, fd in zip(request.selected(), fds, strict=True):
            if fd is not None:
                os.set_blocking(fd, False)  # a client must not be able to stop us at a full counter
            self._replace(number, fd)

    def _replace(self, number: int, fd: int | None) -> None:
        old, self._fds[number] = self._fds[number], fd
        if old is not None:
            os.close(old)
