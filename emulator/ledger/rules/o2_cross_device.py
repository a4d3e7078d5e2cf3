# SPDX-License-Identifier: MIT
"""O-2: a device uses its own mappings, not another's."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState
from emulator.ports import RingKind


class CrossDeviceRule(Rule):
    """An IOVA that only another device has mapped is not used, and no RX page has two owners.

    ``shared`` counts pages that were mapped while another device had their memory mapped:
    information, unless the policy says exclusive. A page that is posted for receive while another
    device may write it is a violation (under a lazy policy only if it is posted there as well).
    All-of-RAM mappings are not looked at.
    """

    number = "O-2"
    title = "an access uses the device's own mappings; no receive buffer serves two devices"
    needs = frozenset({Signal.MAP, Signal.DMA})
    helps = MappingProxyType({Signal.RING: "receive buffers that two devices share"})
    speaks = "at the access; at the map (exclusive policy); at the posting of a shared RX page"

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self.shared = 0
        self.idle = True

    def not_judged(self) -> list[str]:
        """Alone there is nobody to confuse the device with."""
        return ["needs a second device"] if self.idle else super().not_judged()

    def peer_added(self) -> None:
        """From now on shared pages are looked for, those mapped already included."""
        if self.idle:
            self.idle = False
            for mapping in self.state.live.mappings():
                self.commons.frames.add(self.state.number, mapping)

    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """Looks for the same memory in other devices' live sets."""
        shared = self.commons.frames.add(self.state.number, mapping)
        self.shared += len(shared)
        if shared and self.state.policy.exclusive:
            cause = "a page was mapped that another device has mapped too"
            self.report(now_ns, cause, shared[0] << PAGE_SHIFT, mapping.size, mapping)

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """Forgets them."""
        for mapping in mappings:
            self.commons.frames.remove(self.state.number, mapping)

    def accessed(
        self,
        now_ns: int,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        ok: NDArray[np.bool_],
        all_ok: bool,
        targets: NDArray[np.int64] | None,
    ) -> None:
        """Looks at every access that this device's live set does not explain."""
        if all_ok and self.state.live.holds(iovas, lengths):
            return
        for iova, length, done in zip(iovas.tolist(), lengths.tolist(), ok.tolist(), strict=True):
            self._judge(now_ns, iova, length, write, "succeeded" if done else "was refused")

    def access_refused(self, now_ns: int, iova: int, length: int, write: bool, reason: str) -> None:
        """As :meth:`accessed`."""
        self._judge(now_ns, iova, length, write, "was refused")

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Looks for the receive buffers' pages among the other devices' receive buffers."""
        if kind is not RingKind.RX_DESC:
            return
        live, users = self.state.live, self.commons.frames.users
        for page in self.state.pages_of(iovas, lengths):
            frame = live.writable_frame(page)
            if frame is not None and len(users.get(frame, ())) > 1:
                self._judge_shared_buffer(now_ns, page, frame)

    def _judge(self, now_ns: int, iova: int, length: int, write: bool, what: str) -> None:
        if self.state.live.find(iova) is not None:
            return
        for other in self.commons.devices:
            mapping = other.live.find(iova) if other is not self.state else None
            if mapping is not None:
                verb = "write" if write else "read"
                cause = (
                    f"a {verb} {what}: only {other.name} has this IOVA mapped, since "
                    f"{mapping.mapped_ns / 1e9:.9f} s"
                )
                self.report(now_ns, cause, iova, length, mapping)
                return

    def _judge_shared_buffer(self, now_ns: int, page: int, frame: int) -> None:
        for number, pages in self.commons.frames.others(self.state.number, frame).items():
            other = self.commons.devices[number]
            for its_page in sorted(pages):
                mapping = other.live.owners.get(its_page)
                if mapping is None or mapping.generation in other.baseline or not mapping.writable:
                    continue
                posted = bool(other.owned_among([its_page], RingKind.RX_DESC))
                if posted or not self.state.policy.lazy:
                    self._report_shared(now_ns, page, other, mapping, posted)
                    return

    def _report_shared(
        self, now_ns: int, page: int, other: DeviceState, mapping: Mapping, posted: bool
    ) -> None:
        how = "it is posted there as well" if posted else "it is still mapped there"
        cause = (
            f"a receive buffer lies in a page that {other.name} can write too: {how}, at IOVA "
            f"{mapping.iova:#x}, mapped at {mapping.mapped_ns / 1e9:.9f} s"
        )
        self.report(now_ns, cause, page << PAGE_SHIFT, 1 << PAGE_SHIFT)
