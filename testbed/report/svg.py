# SPDX-License-Identifier: MIT
"""Makes a figure's SVG fit to stand inside an HTML page.

Inside HTML an SVG needs no namespaces, its ids share the page's, and its ink should follow the
page's light or dark colours.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from testbed.report.style import COLOUR, GRID, INK, MUTED

#: The colours of the figures as the custom properties of the page's style sheet.
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    COLOUR["page_pool"]: "var(--pool)",
    COLOUR["map_per_packet"]: "var(--each)",
    "#ffffff": "var(--paper)",
}
_LOCAL_URL = re.compile(r"url\(#([^)]+)\)")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")


def inline_svg(svg: bytes, prefix: str, label: str) -> str:
    """``svg`` (a whole file, as matplotlib writes it) as one element of an HTML page.

    ``prefix`` makes its ids unique in the page; ``label`` says what it shows to those who cannot
    see it. Size is left to the page: only the viewBox stays.
    """
    root = ET.fromstring(svg)
    for element in root.iter():
        _local_names(element)
        _prefix_ids(element, prefix)
        if "style" in element.attrib:
            element.set("style", _COLOUR.sub(_variable, element.attrib["style"]))
    for parent in list(root.iter()):
        for child in [each for each in parent if each.tag == "metadata"]:
            parent.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _local_names(element: ET.Element) -> None:
    """``{namespace}path`` becomes ``path``; the same for attributes such as xlink:href."""
    element.tag = element.tag.rpartition("}")[2]
    for name in list(element.attrib):
        if "}" in name:
            element.set(name.rpartition("}")[2], element.attrib.pop(name))


def _prefix_ids(element: ET.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name == "href":
            element.set(name, f"#{prefix}-{value.removeprefix('#')}")
        elif "url(" in value:
            element.set(name, _LOCAL_URL.sub(rf"url(#{prefix}-\1)", value))


def _variable(match: re.Match[str]) -> str:
    return _VARIABLES.get(match[0], match[0])
