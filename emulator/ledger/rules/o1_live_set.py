# SPDX-License-Identifier: MIT
"""O-1: no successful access outside the live set."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_SHIFT, PAGE_SIZE, Mapping, target_of
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal
from emulator.ports import RingKind


class LiveSetRule(Rule):
    """An access that succeeded lies in live mappings that allow it, and landed where they say."""

    number = "O-1"
    title = "no access, made or asked for, outside the live set (IOVA, generation, permission)"
    needs = frozenset({Signal.MAP, Signal.DMA})
    helps = MappingProxyType({Signal.RING: "buffers posted where nothing is mapped"})
    speaks = (
        "at a successful access that the ledger's own record does not allow; when the address "
        "space's answer to a map or unmap disagrees with that record; when the driver posts a "
        "buffer where nothing is mapped"
    )

    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """The space must not have mapped over a live mapping."""
        live = self.state.live
        if mapping.size > PAGE_SIZE or live.big:
            old = next(iter(live.within(mapping.iova, mapping.size)), None)
        else:
            old = live.owners.get(mapping.iova >> PAGE_SHIFT)
        if old is not None:
            cause = f"mapped over the live mapping {old}"
            self.report(now_ns, cause, mapping.iova, mapping.size, mapping)

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """The space must have removed what lies in the requested range: all of it, only that."""
        request = self.state.request
        if request is None or (len(mappings) == 1 and request == mappings[0][:2]):
            return
        due = {mapping.generation: mapping for mapping in self.state.live.within(*request)}
        for mapping in mappings:
            if due.pop(mapping.generation, None) is None:
                cause = "removed by an unmap that did not cover it"
                self.report(now_ns, cause, mapping.iova, mapping.size, mapping)
        for mapping in due.values():
            cause = f"left alive by the unmap of {request[0]:#x}+{request[1]:#x}"
            self.report(now_ns, cause, mapping.iova, mapping.size, mapping)

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
        """Checks a batch as a whole, and access by access only if that fails."""
        if not all_ok:
            iovas, lengths = iovas[ok], lengths[ok]
            targets = None if targets is None else targets[ok]
        if self.state.live.explains(iovas, lengths, write, targets):
            return
        places = [None] * len(iovas) if targets is None else targets.tolist()
        for iova, length, target in zip(iovas.tolist(), lengths.tolist(), places, strict=True):
            cause = self._cause(iova, length, write, target)
            if cause:
                self.report(now_ns, cause, iova, length)

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """The driver must not send the device where nothing is mapped."""
        live = self.state.live
        if live.holds(iovas, lengths):
            return
        for iova, length in zip(iovas.tolist(), lengths.tolist(), strict=True):
            hole = live.hole(iova, length)
            if hole is not None:
                cause = (
                    f"a buffer of {length} bytes was posted on {kind.value} of queue {queue}, but "
                    f"{hole:#x} is not mapped: nothing checked the address (driver bug)"
                )
                self.report(now_ns, cause, iova, length)

    def _cause(self, iova: int, length: int, write: bool, target: int | None) -> str:
        """What is wrong with one access; empty if nothing."""
        verb = "write" if write else "read"
        at, end = iova, iova + length
        while at < end:
            mapping = self.state.live.find(at)
            if mapping is None:
                return f"{verb} succeeded at {at:#x}, which is not mapped"
            if not (mapping.writable if write else mapping.readable):
                return f"{verb} succeeded in a mapping that does not allow it"
            if at == iova and target is not None:
                due = target_of(mapping.memory, mapping.offset + iova - mapping.iova)
                if mapping.memory is not None and target != due:
                    return f"{verb} landed at {target:#x}, the live mapping says {due:#x}"
            at = mapping.end
        return ""
