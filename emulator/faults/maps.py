# SPDX-License-Identifier: MIT
"""X-51 to X-53: an IOMMU that is slow to unmap, fails to, or refuses to map."""

from __future__ import annotations

from dataclasses import replace
from errno import EIO, ENOSPC

from emulator.faults.fault import Fault, Outcome
from emulator.faults.ports import MapPort, Ports
from emulator.faults.trigger import NS_PER_US
from emulator.vfio_user.errors import VfioUserError


class _Maps:
    def __init__(self, port: MapPort, fault: MapFault) -> None:
        self._port, self._fault = port, fault

    def mapping(self, iova: int, size: int, now_ns: int) -> None:
        self._fault.mapping(iova, size, now_ns)
        self._port.mapping(iova, size, now_ns)

    def unmapping(self, iova: int, size: int, now_ns: int) -> int:
        longer = self._fault.unmapping(iova, size, now_ns)
        return longer + self._port.unmapping(iova, size, now_ns)


class MapFault(Fault):
    """Spoils maps or unmaps; see :class:`~emulator.faults.ports.MapPort`."""

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, maps=_Maps(ports.maps, self))

    def mapping(self, iova: int, size: int, now_ns: int) -> None:
        """A map was asked for."""

    def unmapping(self, iova: int, size: int, now_ns: int) -> int:
        """An unmap was asked for."""
        return 0


class SlowUnmap(MapFault):
    """An unmap takes ``amount`` us (2 ms) longer."""

    number, name = "X-51", "slow-unmap"
    shows = "the host waits for a slow invalidation and stays correct"
    expect = frozenset({Outcome.SURVIVED, Outcome.RECOVERED})
    default = "every = 3\ntimes = 50"

    def unmapping(self, iova: int, size: int, now_ns: int) -> int:
        """See :class:`MapFault`."""
        if not self.trigger.strikes(now_ns):
            return 0
        self.did(f"unmap of {iova:#x}+{size:#x} delayed by {self.amount(2_000)} us")
        return self.amount(2_000) * NS_PER_US


class FailedUnmap(MapFault):
    """The answer to an unmap is an error, although the mapping is gone."""

    number, name = "X-52", "failed-unmap"
    shows = "an invalidation that fails is logged by the host; nobody hangs"
    expect = frozenset({Outcome.SURVIVED, Outcome.DETECTED})
    default = "every = 3\ntimes = 20"

    def unmapping(self, iova: int, size: int, now_ns: int) -> int:
        """See :class:`MapFault`."""
        if not self.trigger.strikes(now_ns):
            return 0
        self.did(f"unmap of {iova:#x}+{size:#x} answered with EIO")
        raise VfioUserError(EIO, f"unmap of {iova:#x}+{size:#x} failed, by order")


class RefusedMap(MapFault):
    """A map is refused for want of space."""

    number, name = "X-53", "refused-map"
    shows = "what cannot be mapped is not posted; where the guest is not told, DMA is refused"
    expect = frozenset({Outcome.SURVIVED, Outcome.DETECTED, Outcome.REFUSED})
    default = "every = 5\ntimes = 40"

    def mapping(self, iova: int, size: int, now_ns: int) -> None:
        """See :class:`MapFault`."""
        if self.trigger.strikes(now_ns):
            self.did(f"map of {iova:#x}+{size:#x} refused")
            raise VfioUserError(ENOSPC, f"map of {iova:#x}+{size:#x} refused, by order")
