# SPDX-License-Identifier: MIT
"""Presets of the IOMMU model: TOML in which every number says where it comes from.

A number is written ``sync_ns = { value = 686, source = "costs.md: <row>" }``; the source is a row
of ``docs/costs.md`` or ``assumption: <why>``. All tables and all their keys must be there: a
preset says what it means, defaults would say it silently. ``[walk]`` names its ``calibration``
and takes no number of another one's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from emulator.iommu.model.contention import SerialServer
from emulator.iommu.model.errors import ModelError
from emulator.iommu.model.invalidation import LazyInvalidation, StrictInvalidation
from emulator.iommu.model.iotlb import CacheSizes, TranslationCaches
from emulator.iommu.model.iova import IovaAllocator, IovaCosts
from emulator.iommu.model.tce import TceCosts, TceTable
from emulator.iommu.model.walker import Calibration, WalkCosts
from emulator.iommu.preset import SOURCE, PresetError, Where, refuse_unknown

_Part = TypeVar("_Part")
COSTS = Path(__file__).parent / "costs"

_KEYS = {
    "map": ("page_table_ns", "other_ns", "next_page_ns"),
    "unmap": ("find_ns", "page_table_ns", "other_ns", "next_page_ns"),
    "iova": (
        "magazine_alloc_ns",
        "magazine_free_ns",
        "depot_ns",
        "tree_alloc_ns",
        "tree_free_ns",
        "visit_ns",
    ),
    "invalidation": ("sync_ns", "queue_ns", "entries", "timeout_ns"),
    "iotlb": ("entries", "ways", "l1", "l2", "l3"),
    "walk": (
        "iotlb_hit_ns",
        "miss_fixed_ns",
        "mem_read_ns",
        "parallelism",
        "base_ns",
        "inflight",
    ),
    "tce": ("put_ns", "indirect_ns", "stuff_ns", "entry_ns", "entries_per_call", "ceiling_per_s"),
}
_WORDS = {"translation", "invalidation_mode", "allocator"}
_TOP = ("about", *sorted(_WORDS), *_KEYS)


class Translation(StrEnum):
    """What stands between device and memory."""

    NONE = "none"  # the device uses physical addresses
    PAGE_TABLES = "page-tables"
    TCE = "tce"
    DIRECT_WINDOW = "direct-window"


class Invalidation(StrEnum):
    """See :mod:`emulator.iommu.model.invalidation`."""

    NONE = "none"
    STRICT = "strict"
    LAZY = "lazy"
    SINGLE_QUEUE = "single-queue"


class Allocator(StrEnum):
    """Where IOVAs come from, see :mod:`emulator.iommu.model.iova`."""

    NONE = "none"
    TREE = "tree"
    MAGAZINES = "magazines"
    BITMAP = "bitmap"  # of TCEs: emulator.iommu.model.tce_bitmap


@dataclass(frozen=True, slots=True)
class IommuCosts:
    """A preset: the model's parameters, and ``sources`` by ``table.key``.

    ``map_ns`` and ``unmap_ns`` are CPU time of a range of one page, without the IOVA and without
    invalidation; each further page adds ``.._next_page_ns``; ``queue_ns``
    is what an unmap pays to be noted in a lazy queue. ``caches``, ``walk`` and ``tce`` are None
    where the translation has no such thing.
    """

    name: str
    about: str
    translation: Translation
    invalidation: Invalidation
    allocator: Allocator
    map_ns: int
    unmap_ns: int
    map_next_page_ns: int
    unmap_next_page_ns: int
    iova: IovaCosts
    sync_ns: int
    queue_ns: int
    queue_entries: int
    timeout_ns: int
    caches: CacheSizes | None
    walk: WalkCosts | None
    tce: TceCosts | None
    sources: dict[str, str]

    def make_allocator(self, cpus: int) -> IovaAllocator:
        """An empty IOVA space for ``cpus`` CPUs; with ``allocator`` none, unused but sound."""
        return IovaAllocator(cpus, magazines=self.allocator is Allocator.MAGAZINES)

    def make_invalidation(
        self, cpus: int, hardware: SerialServer | None = None
    ) -> StrictInvalidation | LazyInvalidation | None:
        """Queues for ``cpus`` CPUs on ``hardware``; None: an unmap invalidates nothing."""
        shared = hardware or SerialServer()
        if self.invalidation is Invalidation.NONE:
            return None
        if self.invalidation is Invalidation.STRICT:
            return StrictInvalidation(self.sync_ns, shared)
        single = self.invalidation is Invalidation.SINGLE_QUEUE
        return LazyInvalidation(
            self.sync_ns, cpus, self.queue_entries, self.timeout_ns, single, shared
        )

    def make_caches(self) -> TranslationCaches | None:
        """Empty translation caches; None: the preset has none."""
        return TranslationCaches(self.caches) if self.caches else None

    def make_tce_table(self, hypervisor: SerialServer | None = None) -> TceTable | None:
        """A TCE table whose calls are served by ``hypervisor``; None: the preset has none."""
        return TceTable(self.tce, hypervisor or SerialServer()) if self.tce else None


def cost_names() -> list[str]:
    """Names of the presets that come with the project."""
    return sorted(path.stem for path in COSTS.glob("*.toml"))


def load_costs(name: str) -> IommuCosts:
    """The preset called ``name``.

    Raises:
        PresetError: there is no such preset; the text lists them.
    """
    if name not in cost_names():
        raise PresetError(f"no IOMMU costs '{name}': there are {', '.join(cost_names())}")
    path = COSTS / f"{name}.toml"
    return parse_costs(path.read_text(encoding="utf-8"), path.name, name)


def parse_costs(text: str, file: str, name: str) -> IommuCosts:
    """What ``text`` describes; ``file`` is for messages.

    Raises:
        PresetError: not TOML, unknown or missing key, negative number, missing source, or sources
            of two calibrations in ``[walk]``; the text begins with file and line.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise PresetError(f"{file}:{found[1] if found else 1}: {error}") from error
    return _Reader(tree, Where(text, file)).costs(name)


class _Reader:
    """Turns the tree of one preset into its parts, refusing what it does not know."""

    def __init__(self, tree: dict[str, Any], where: Where) -> None:
        refuse_unknown(tree, _TOP, "", where)
        self._tree, self._where = tree, where
        self._sources: dict[str, str] = {}

    def costs(self, name: str) -> IommuCosts:
        translation = Translation(self._word("translation", list(Translation)))
        about = self._tree.get("about")
        if not isinstance(about, str):
            raise self._refusal("", "about", "'about' must say in a sentence what this models")
        paged = translation is Translation.PAGE_TABLES
        called = translation in (Translation.TCE, Translation.DIRECT_WINDOW)
        for table, wanted in (("iotlb", paged), ("walk", paged), ("tce", called)):
            if not wanted and table in self._tree:
                raise self._refusal("", table, f"[{table}] with translation '{translation}'")
        allocator = Allocator(self._word("allocator", list(Allocator)))
        if (allocator is Allocator.BITMAP) != (translation is Translation.TCE):
            raise self._refusal("", "allocator", f"'{allocator}' with translation '{translation}'")
        map_, unmap, queue = (self._table(table) for table in ("map", "unmap", "invalidation"))
        return IommuCosts(
            name=name,
            about=about,
            translation=translation,
            invalidation=Invalidation(self._word("invalidation_mode", list(Invalidation))),
            allocator=allocator,
            map_next_page_ns=map_.pop("next_page_ns"),
            unmap_next_page_ns=unmap.pop("next_page_ns"),
            map_ns=sum(map_.values()),
            unmap_ns=sum(unmap.values()),
            iova=IovaCosts(**self._table("iova")),
            sync_ns=queue["sync_ns"],
            queue_ns=queue["queue_ns"],
            queue_entries=queue["entries"],
            timeout_ns=queue["timeout_ns"],
            caches=self._caches() if paged else None,
            walk=self._walk() if paged else None,
            tce=self._built("tce", TceCosts, self._table("tce")) if called else None,
            sources=self._sources,
        )

    def _caches(self) -> CacheSizes:
        found = self._table("iotlb")
        sizes = CacheSizes(found.pop("entries"), **found)
        self._built("iotlb", TranslationCaches, {"sizes": sizes})
        return sizes

    def _walk(self) -> WalkCosts:
        table = self._tree.get("walk")
        calibration = table.get("calibration") if isinstance(table, dict) else None
        if calibration not in list(Calibration):
            allowed = ", ".join(Calibration)
            raise self._refusal("walk", "calibration", f"calibration must be one of: {allowed}")
        numbers = self._table("walk", ("calibration",))
        for key in numbers:
            source = self._sources[f"walk.{key}"]
            if source.startswith("costs.md") and not source.startswith(f"costs.md: {calibration},"):
                raise self._refusal(
                    "walk", key, f"{key} is of another calibration than '{calibration}': {source}"
                )
        return self._built("walk", WalkCosts, {"calibration": Calibration(calibration), **numbers})

    def _built(self, table: str, kind: Callable[..., _Part], arguments: dict[str, Any]) -> _Part:
        try:
            return kind(**arguments)
        except ModelError as error:
            raise self._refusal("", table, f"[{table}]: {error}") from error

    def _word(self, key: str, allowed: list[Any]) -> str:
        word = self._tree.get(key)
        if word not in allowed:
            raise self._refusal("", key, f"{key} is {word!r}; allowed: {', '.join(allowed)}")
        return str(word)

    def _table(self, table: str, words: tuple[str, ...] = ()) -> dict[str, int]:
        entries = self._tree.get(table)
        if not isinstance(entries, dict):
            raise self._refusal("", table, f"table [{table}] is missing")
        refuse_unknown(entries, (*words, *_KEYS[table]), table, self._where)
        return {key: self._number(entries, table, key) for key in _KEYS[table]}

    def _number(self, entries: dict[str, Any], table: str, key: str) -> int:
        entry = entries.get(key)
        if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
            form = f'{key} = {{ value = <whole number>, source = "..." }}'
            raise self._refusal(table, key, f"[{table}] needs {form}")
        value, source = entry["value"], entry["source"]
        if type(value) is not int or value < 0:
            raise self._refusal(table, key, f"{key} is {value!r}: a whole number, not negative")
        if not isinstance(source, str) or not SOURCE.fullmatch(source):
            begin = "'costs.md: <row>' or 'assumption: <why>'"
            raise self._refusal(table, key, f"source of {key} must begin {begin}")
        self._sources[f"{table}.{key}"] = source
        return value

    def _refusal(self, table: str, key: str, text: str) -> PresetError:
        return PresetError(f"{self._where.of(table, key)}: {text}")
