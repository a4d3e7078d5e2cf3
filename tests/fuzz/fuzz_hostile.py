# SPDX-License-Identifier: MIT
"""The hostile guest under atheris (coverage-guided), by hand and for as long as you like.

    .venv/bin/pip install atheris
    .venv/bin/python -m tests.fuzz.fuzz_hostile -max_len=4096 -max_total_time=600 out/corpus

Options are libFuzzer's; the folder keeps the programs that reached something new. A program that
fails is written to ./crash-...: give it as the only argument to play it again. It needs no guest,
no root and no network. atheris is not a dependency of the project: it is built for few versions of
Python, and `tests/fuzz/test_hostile_guest.py` plays the same programs by hypothesis.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def compiled_modules() -> list[str]:
    """Modules with loops for numba, which cannot compile what atheris has put its marks into."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "emulator").rglob("*.py"))
        if path.name == "kernel.py" or "from emulator.kernel import" in path.read_text()
    ]


def main() -> None:
    """Hands the programs of atheris to :func:`tests.fuzz.hostile.play`."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: .venv/bin/pip install atheris")
    with atheris.instrument_imports(include=["emulator"], exclude=compiled_modules()):
        from emulator.warm import warm_up
        from tests.fuzz.hostile import play
    warm_up()  # a loop that is compiled first counts as a step that does not end
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
