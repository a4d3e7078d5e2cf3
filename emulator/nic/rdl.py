# SPDX-License-Identifier: MIT
"""Reads ``registers.rdl`` with systemrdl-compiler: the only place where the RDL is parsed."""

from __future__ import annotations

from pathlib import Path

from systemrdl.compiler import RDLCompiler
from systemrdl.node import AddressableNode, FieldNode, RegfileNode, RegNode
from systemrdl.rdltypes.builtin_enums import AccessType, OnWriteType

from emulator.nic.regmap import Access, Field, Register, RegisterMap

RDL_PATH = Path(__file__).with_name("registers.rdl")


def load(path: Path = RDL_PATH) -> RegisterMap:
    """The register map of ``path``.

    Raises:
        systemrdl.RDLCompileError: the file is not valid SystemRDL (the compiler prints where).
    """
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    top = compiler.elaborate().top
    (pair,) = (node for node in top.children() if isinstance(node, RegfileNode))
    return RegisterMap(
        registers=_registers(top),
        queue_registers=_registers(pair),
        queue_base=pair.raw_address_offset,
        queue_stride=pair.array_stride or 0,
        queues_max=pair.n_elements,
    )


def _registers(parent: AddressableNode) -> tuple[Register, ...]:
    nodes = (node for node in parent.children() if isinstance(node, RegNode))
    return tuple(sorted(map(_register, nodes), key=lambda register: register.offset))


def _register(node: RegNode) -> Register:
    return Register(
        name=node.inst_name,
        offset=node.raw_address_offset,
        width=node.get_property("regwidth"),
        fields=tuple(_field(field) for field in node.fields()),
        title=node.get_property("name"),
        doc=node.get_property("desc") or "",
    )


def _field(node: FieldNode) -> Field:
    reset = node.get_property("reset")
    return Field(
        name=node.inst_name.upper(),
        low=node.low,
        width=node.width,
        access=_access(node),
        reset=reset if isinstance(reset, int) else None,
        fixed=node.get_property("hw") is AccessType.na,
        doc=node.get_property("desc") or "",
    )


def _access(node: FieldNode) -> Access:
    if node.get_property("singlepulse"):
        return Access.PULSE
    if node.get_property("onwrite") is OnWriteType.woclr:
        return Access.W1C
    kinds = {AccessType.r: Access.RO, AccessType.rw: Access.RW, AccessType.w: Access.WO}
    return kinds[node.get_property("sw")]
