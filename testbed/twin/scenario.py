# SPDX-License-Identifier: MIT
"""What a twin is of: a TOML file as frozen dataclasses, or a refusal with line and allowed values.

Everything has a default but the strategy, the IOMMU preset and the number of packets. A sweep
varies any of these keys by its dotted name (``traffic.frame_bytes``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from driver.host.costs import host_cost_names
from emulator.fields import Choice, Fault, Integer, Number, Text, did_you_mean, table_faults
from emulator.iommu.model.costs import cost_names
from pool.interface import MAX_REFERENCES
from pool.registry import STRATEGIES
from testbed.scenario import find_scenario, parse_document, read_document

FOLDER = Path(__file__).parent / "scenarios"

STRATEGY_NAMES = tuple(sorted(STRATEGIES))
PRESET_NAMES = tuple(cost_names())
HOST_NAMES = tuple(host_cost_names())
TRAFFIC_KINDS = ("fixed", "imix", "poisson", "bursts", "pcap")
CONSUMERS = ("drop", "discard", "forward", "forward-remote", "socket", "storage", "initiator")


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    @property
    def allowed(self) -> str:
        """See :class:`emulator.fields.Rule`."""
        return "true, false"

    def faults(self, value: object, path: tuple[str | int, ...]) -> Iterator[Fault]:
        """See :class:`emulator.fields.Rule`."""
        if not isinstance(value, bool):
            name = ".".join(str(key) for key in path)
            yield Fault(path, f"{name} = {value} is neither; allowed: {self.allowed}")


@dataclass(frozen=True, slots=True)
class FileName:
    """The path of a file, or nothing."""

    @property
    def allowed(self) -> str:
        """See :class:`emulator.fields.Rule`."""
        return "the path of a file"

    def faults(self, value: object, path: tuple[str | int, ...]) -> Iterator[Fault]:
        """See :class:`emulator.fields.Rule`."""
        if not isinstance(value, str) or not value.isprintable():
            name = ".".join(str(key) for key in path)
            yield Fault(path, f"{name} = {value!r} is none; allowed: {self.allowed}")


@dataclass(frozen=True, slots=True)
class Traffic:
    """``[traffic]``. frame_bytes: with FCS, of all kinds but imix and pcap.

    rate_gbps: of all queues together, on the wire; 0: as much as the polls take. line_gbps: of
    the budget line in reports. first_poll: packets that a queue's first poll finds at rate 0,
    where every other finds a full budget, so that polls are not in step with blocks of buffers.
    burst: packets back to back. pcap: a file whose packets come again and again, with their own
    times unless a rate is given.
    """

    kind: Annotated[str, Choice(TRAFFIC_KINDS)] = "fixed"
    frame_bytes: Annotated[int, Integer(64, 9018)] = 64
    rate_gbps: Annotated[float, Number(0, 800, "Gb/s")] = 0.0
    line_gbps: Annotated[float, Number(1, 800, "Gb/s")] = 10.0
    first_poll: Annotated[int, Integer(1, 64)] = 23
    burst: Annotated[int, Integer(1, 4096)] = 64
    pcap: Annotated[str, FileName()] = ""


@dataclass(frozen=True, slots=True)
class Driver:
    """``[driver]``. ring: descriptors of a queue; budget: of a NAPI poll.

    references: to a page, taken by one atomic where packets share a page; 1: as in 2016.
    """

    queues: Annotated[int, Integer(1, 64)] = 1
    ring: Annotated[int, Integer(8, 8192, power_of_two=True)] = 512
    budget: Annotated[int, Integer(1, 64)] = 64
    pool_size: Annotated[int, Integer(1, 32768)] = 1024
    buffer_bytes: Annotated[int, Integer(64, 4096)] = 2048
    headroom: Annotated[int, Integer(0, 2047)] = 0
    sync: Annotated[bool, Flag()] = True
    references: Annotated[int, Integer(1, MAX_REFERENCES)] = MAX_REFERENCES


@dataclass(frozen=True, slots=True)
class Consumer:
    """``[consumer]``: what becomes of a packet.

    drop: freed in the poll. discard: dropped by the driver before it is anybody's, as XDP_DROP: the
    buffer goes back unused. forward: sent on, freed by the transmit completion on the same CPU;
    forward-remote: on another. socket: read after ``hold_us`` by another CPU. storage: ``batch``
    packets are a command, freed together when it is done. initiator: as storage, but who started
    the transfer brings the buffers, so the pool is never asked.
    late_every: of so many packets one is held for ``late_us`` (TCP out of order); 0: none.
    """

    kind: Annotated[str, Choice(CONSUMERS)] = "drop"
    hold_us: Annotated[float, Number(0, 1e6, "us")] = 0.0
    late_every: Annotated[int, Integer(0, 1 << 20)] = 0
    late_us: Annotated[float, Number(0, 1e7, "us")] = 0.0
    batch: Annotated[int, Integer(1, 1024)] = 1


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """``[memory]``. fragmented: share of order-3 blocks that somebody has a page of."""

    mib: Annotated[int, Integer(8, 4096)] = 128
    fragmented: Annotated[float, Number(0, 1, "share")] = 0.0
    debug_checks: Annotated[bool, Flag()] = True


@dataclass(frozen=True, slots=True)
class Devices:
    """``[devices]``. count: NICs, queues are dealt out to them.

    shared_domain: they share one pool's mappings, and try to write each other's buffers.
    """

    count: Annotated[int, Integer(1, 2)] = 1
    shared_domain: Annotated[bool, Flag()] = False


@dataclass(frozen=True, slots=True)
class TwinScenario:
    """The whole file."""

    strategy: Annotated[str, Choice(STRATEGY_NAMES)]
    preset: Annotated[str, Choice(PRESET_NAMES)]
    packets: Annotated[int, Integer(1, 10_000_000_000)]
    about: Annotated[str, Text()] = "no description"
    host: Annotated[str, Choice(HOST_NAMES)] = "linux-2016"
    seed: Annotated[int, Integer(0, (1 << 63) - 1)] = 1
    traffic: Traffic = Traffic()
    driver: Driver = Driver()
    consumer: Consumer = Consumer()
    memory: MemoryPlan = MemoryPlan()
    devices: Devices = Devices()
    name: str = field(default="", kw_only=True, metadata={"derived": True})

    def to_json(self) -> dict[str, Any]:
        """Plain values; :func:`scenario_of` makes the same scenario of them."""
        tree = asdict(self)
        del tree["name"]
        return tree


def load_twin(where: str | Path) -> TwinScenario:
    """A scenario by the path of its file, or by the name of one that comes with the project.

    Raises:
        ScenarioMissingError: no such file.
        ScenarioError: it says what cannot be; every fault with its line.
    """
    path = find_scenario(str(where), FOLDER)
    scenario = parse_document(TwinScenario, read_document(path), str(path), _cross_faults)
    return replace(scenario, name=path.stem)


def twin_scenarios() -> tuple[str, ...]:
    """Names of those that come with the project."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def scenario_of(tree: dict[str, Any]) -> TwinScenario:
    """The scenario of a tree as :meth:`TwinScenario.to_json` makes it.

    Raises:
        ValueError: faults; the text names the first.
    """
    from emulator.fields import build_table

    faults = list(table_faults(TwinScenario, tree)) or list(_cross_faults(tree))
    if faults:
        raise ValueError(faults[0].text)
    return build_table(TwinScenario, tree)


def varied(scenario: TwinScenario, key: str, value: object) -> TwinScenario:
    """The scenario with the value at the dotted ``key`` replaced.

    Raises:
        ValueError: there is no such key, or it may not have that value; the text says what may be.
    """
    tree = scenario.to_json()
    node = tree
    *tables, last = key.split(".")
    for table in tables:
        node = node.get(table, {}) if isinstance(node, dict) else {}
    if not isinstance(node, dict) or last not in node or isinstance(node[last], dict):
        keys = list(dotted_keys(tree))
        raise ValueError(f"no key {key}; there are: {', '.join(keys)}{did_you_mean(key, keys)}")
    if isinstance(node[last], float) and type(value) is int:
        value = float(value)
    node[last] = value
    return replace(scenario_of(tree), name=scenario.name)


def dotted_keys(tree: dict[str, Any]) -> Iterator[str]:
    """Every key of a tree, ``table.key`` where it is in a table."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield key


def _cross_faults(tree: dict[str, Any]) -> Iterator[Fault]:
    """What no single value shows."""
    traffic, driver = tree.get("traffic", {}), tree.get("driver", {})
    consumer, devices = tree.get("consumer", {}), tree.get("devices", {})
    room = driver.get("headroom", 0) + driver.get("buffer_bytes", 2048)
    if room > 4096:
        text = f"driver: headroom and buffer_bytes are {room} bytes; allowed: a page of 4096"
        yield Fault(("driver", "buffer_bytes"), text)
    if traffic.get("kind") == "pcap" and not traffic.get("pcap"):
        yield Fault(("traffic", "kind"), "traffic.kind = pcap needs traffic.pcap, a file")
    if devices.get("count", 1) > driver.get("queues", 1):
        text = "devices.count is above driver.queues; allowed: a queue or more for each device"
        yield Fault(("devices", "count"), text)
    ring, mib = driver.get("ring", 512), tree.get("memory", {}).get("mib", 128)
    need = driver.get("queues", 1) * ring * 4 // 256 + 4
    if need > mib:
        text = f"memory.mib = {mib} cannot fill the rings several times; allowed: from {need} on"
        yield Fault(("memory", "mib"), text)
    if consumer.get("kind", "drop") in ("drop", "discard") and consumer.get("late_every", 0):
        yield Fault(("consumer", "late_every"), "a dropped packet is not held; use another kind")
