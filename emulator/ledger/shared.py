# SPDX-License-Identifier: MIT
"""Which guest pages are mapped by which devices: kept only while a ledger has several devices."""

from __future__ import annotations

from emulator.iommu.mapping import PAGE_SHIFT, Mapping, target_of
from emulator.ledger.live import BIG_PAGES


class SharedFrames:
    """Frame (packed target >> 12) -> device number -> page numbers it is mapped at.

    Mappings of more than ``BIG_PAGES`` pages (all of RAM) and memory without a file are left out.
    """

    def __init__(self) -> None:
        self.users: dict[int, dict[int, set[int]]] = {}

    def add(self, device: int, mapping: Mapping) -> list[int]:
        """Records a mapping; returns those of its pages whose memory another device has too."""
        shared = []
        for page, frame in frames_of(mapping):
            users = self.users.setdefault(frame, {})
            users.setdefault(device, set()).add(page)
            if len(users) > 1:
                shared.append(page)
        return shared

    def remove(self, device: int, mapping: Mapping) -> None:
        """Forgets a mapping."""
        for page, frame in frames_of(mapping):
            users = self.users.get(frame, {})
            pages = users.get(device, set())
            pages.discard(page)
            if not pages:
                users.pop(device, None)
            if not users:
                self.users.pop(frame, None)

    def others(self, device: int, frame: int) -> dict[int, set[int]]:
        """The pages at which other devices have the frame."""
        users = self.users.get(frame, {})
        return {number: pages for number, pages in users.items() if number != device}


def frames_of(mapping: Mapping) -> zip[tuple[int, int]]:
    """(page number, frame) of each page of a small mapping of a file; else nothing."""
    count = mapping.size >> PAGE_SHIFT
    if mapping.memory is None or count > BIG_PAGES:
        count = 0
    page = mapping.iova >> PAGE_SHIFT
    frame = target_of(mapping.memory, mapping.offset) >> PAGE_SHIFT
    return zip(range(page, page + count), range(frame, frame + count), strict=True)
