# SPDX-License-Identifier: MIT
"""The state of one IOMMU and its driver, made from a preset."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.iommu.model import places
from emulator.iommu.model.costs import Allocator, Invalidation, IommuCosts, Translation
from emulator.iommu.model.errors import ModelError
from emulator.iommu.model.flush_queue import FlushQueues, make_queues
from emulator.iommu.model.iotlb import make_caches
from emulator.iommu.model.iova_tree import LOW_LIMIT_PFN, make_tree
from emulator.iommu.model.lru import LruSets
from emulator.iommu.model.magazines import UNLIMITED, IovaSpace, make_space
from emulator.iommu.model.tce_bitmap import make_bitmap
from emulator.kernel import Floats, Ints

ROOM_CPUS, ROOM_SETS, ROOM_ENTRIES, ROOM_PLACES = 128, 68, 512, 256
"""CPUs, sets and entries of caches, places of a flush queue for which arrays are made at least, so
that all presets share their machine code."""
MAX_RANGES = 4096
"""Ranges that one call may unmap."""

_TRANSLATIONS = {
    Translation.NONE: places.IDENTITY,
    Translation.DIRECT_WINDOW: places.IDENTITY,
    Translation.PAGE_TABLES: places.PAGE_TABLES,
    Translation.TCE: places.TCE,
}
_INVALIDATIONS = {
    Invalidation.NONE: places.NO_INVALIDATION,
    Invalidation.STRICT: places.STRICT,
    Invalidation.LAZY: places.QUEUED,
    Invalidation.SINGLE_QUEUE: places.QUEUED,
}


class Iommu(NamedTuple):
    """n, f, par: numbers, times and parameters, see :mod:`emulator.iommu.model.places`.

    ended: int64[cap, 2], ended_ns: float64[cap]: ranges that ended and when, ``n[ENDED]`` of them;
    cap covers a flush of all queues and MAX_RANGES more.
    """

    n: Ints
    f: Floats
    par: Ints
    space: IovaSpace
    caches: LruSets
    queues: FlushQueues
    ended: Ints
    ended_ns: Floats


def make_iommu(costs: IommuCosts, cpus: int, space_pages: int = LOW_LIMIT_PFN) -> Iommu:
    """An IOMMU that has mapped nothing, for ``cpus`` CPUs and IOVAs below ``space_pages``.

    Page 0 is never given out. 2^20 pages are the 4 GiB in which Linux looks first.

    Raises:
        ModelError: no CPU, or no page.
    """
    if cpus < 1 or space_pages < 2:
        raise ModelError(f"{cpus} CPUs, {space_pages} pages: needs 1 CPU and 2 pages at least")
    n = places.numbers()
    nodes = _nodes(n, costs, space_pages)
    magazines = costs.allocator is Allocator.MAGAZINES
    queued = _INVALIDATIONS[costs.invalidation] == places.QUEUED
    single = costs.invalidation is Invalidation.SINGLE_QUEUE
    queues = make_queues(
        1 if single or not queued else cpus,
        costs.queue_entries if queued else 1,
        (1, ROOM_PLACES) if single else (ROOM_CPUS, ROOM_PLACES),
    )
    capacity = queues.times.shape[0] * queues.times.shape[1] + MAX_RANGES
    return Iommu(
        n=n,
        f=places.times(),
        par=_parameters(costs),
        space=make_space(n, nodes, cpus, magazines, UNLIMITED, max(cpus, ROOM_CPUS)),
        caches=make_caches(costs.caches, (ROOM_SETS, ROOM_ENTRIES)),
        queues=queues,
        ended=np.zeros((capacity, 2), np.int64),
        ended_ns=np.zeros(capacity),
    )


def _nodes(n: Ints, costs: IommuCosts, space_pages: int) -> Ints:
    """Tree or bitmap of an empty space, with rows for ``space_pages`` whatever it is."""
    if costs.translation is Translation.TCE:
        used = make_bitmap(n, space_pages)
    else:
        used = make_tree(n, space_pages if costs.translation is Translation.PAGE_TABLES else 2, 1)
    nodes = np.zeros((max(space_pages + 2, len(used)), 4), np.int64)
    nodes[: len(used)] = used
    return nodes


def _parameters(costs: IommuCosts) -> Ints:
    """What kernels need of a preset."""
    par = np.zeros(places.PARAMETERS, np.int64)
    par[places.TRANSLATION] = _TRANSLATIONS[costs.translation]
    par[places.INVALIDATION] = _INVALIDATIONS[costs.invalidation]
    par[places.BATCH_INVALIDATION] = par[places.FORGET_WALKS] = 1
    par[places.MAP_NS], par[places.UNMAP_NS] = costs.map_ns, costs.unmap_ns
    par[places.MAP_NEXT_PAGE_NS] = costs.map_next_page_ns
    par[places.UNMAP_NEXT_PAGE_NS] = costs.unmap_next_page_ns
    iova = costs.iova
    par[places.MAGAZINE_ALLOC_NS : places.VISIT_NS + 1] = (
        iova.magazine_alloc_ns,
        iova.magazine_free_ns,
        iova.depot_ns,
        iova.tree_alloc_ns,
        iova.tree_free_ns,
        iova.visit_ns,
    )
    par[places.SYNC_NS], par[places.QUEUE_NS] = costs.sync_ns, costs.queue_ns
    par[places.QUEUE_CAPACITY], par[places.TIMEOUT_NS] = costs.queue_entries - 1, costs.timeout_ns
    if costs.tce:
        costs.tce.enter(par)
    return par
