# SPDX-License-Identifier: MIT
"""Removes and inverts every rule of the ledger, and shows that at least one test fails each time.

    python -m tests.mutation.rules [--all] [RULE ...]

Mutants of a rule: *removed* (none of its hooks does anything), *inverted* (it speaks when it would
be silent and is silent when it would speak), *mute N* (its Nth report is dropped) and, with --all,
*negated N* (its Nth condition is turned round). Each runs in a process of its own against the unit
tests of the ledger, until the first failure. The status is 1 if a mutant survived.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.ledger.rules.base import Rule
from emulator.ledger.rules.catalogue import RULES

TESTS = Path(__file__).parents[1] / "unit" / "ledger"
HOOKS = [
    "mapped", "unmap_requested", "unmapped", "accessed", "access_refused", "gate_changed",
    "ring_started", "ring_stopped", "posted", "returned", "packets", "window_ended", "told",
    "looked", "marked", "reset",
]  # fmt: skip
FILES = sorted(str(path) for path in TESTS.glob("test_rules*.py"))

ALIVE, DEAD, BROKEN = 0, 1, 2
Mutant = tuple[str, Callable[[], None]]


def own_hooks(rule: type[Rule]) -> list[str]:
    return [name for name in HOOKS if name in vars(rule)]


def remove(rule: type[Rule]) -> None:
    for name in own_hooks(rule):
        setattr(rule, name, getattr(Rule, name))


def invert(rule: type[Rule]) -> None:
    """Every hook call ends in a report exactly if it would have ended without one."""
    for name in own_hooks(rule):
        setattr(rule, name, _inverted(getattr(rule, name)))


def _inverted(hook: Callable[..., None]) -> Callable[..., None]:
    def inverted(self: Rule, now_ns: Any, *rest: Any) -> None:
        spoke: list[bool] = []
        self.report = lambda *_, **__: spoke.append(True)  # type: ignore[method-assign]
        try:
            hook(self, now_ns, *rest)
        finally:
            del self.report
        if not spoke:
            self.report(now_ns if isinstance(now_ns, int) else 0, "inverted", 0, 0)

    return inverted


class _Mute(ast.NodeTransformer):
    """Drops the report that is ``target``th in the source."""

    def __init__(self, target: int) -> None:
        self.target, self.seen = target, -1

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "report"
        ):
            self.seen += 1
            if self.seen == self.target:
                return ast.copy_location(ast.Pass(), node)
        return node


class _Negate(ast.NodeTransformer):
    """Turns round the condition that is ``target``th in the source."""

    def __init__(self, target: int) -> None:
        self.target, self.seen = target, -1

    def visit_If(self, node: ast.If) -> ast.AST:
        self.seen += 1
        if self.seen == self.target:
            node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
            return ast.fix_missing_locations(node)
        return self.generic_visit(node)


def rewrite(rule: type[Rule], change: Callable[[int], Any], number: int) -> None:
    """Runs the rule's changed source in its module and takes the new class's methods over."""
    module = sys.modules[rule.__module__]
    tree = change(number).visit(ast.parse(inspect.getsource(module)))
    names: dict[str, Any] = {"__name__": rule.__module__}
    exec(compile(ast.fix_missing_locations(tree), str(module.__file__), "exec"), names)
    fresh = names[rule.__name__]
    for name, value in vars(fresh).items():
        if inspect.isfunction(value):
            # Methods look names up in the module they came from: give them the changed one.
            setattr(rule, name, value)


def count(rule: type[Rule], change: Callable[[int], Any]) -> int:
    visitor = change(-2)
    visitor.visit(ast.parse(inspect.getsource(sys.modules[rule.__module__])))
    return int(visitor.seen) + 1


def mutants(rule: type[Rule], everything: bool) -> Iterator[Mutant]:
    yield "removed", lambda: remove(rule)
    yield "inverted", lambda: invert(rule)
    kinds = [("mute", _Mute)] + ([("negated", _Negate)] if everything else [])
    for name, change in kinds:
        for number in range(count(rule, change)):
            yield f"{name} {number}", lambda c=change, n=number: rewrite(rule, c, n)  # type: ignore[misc]


class Killer:
    """A pytest plugin: collects the tests once, then runs them in a fork for each mutant."""

    def __init__(self, chosen: list[tuple[str, Mutant]]) -> None:
        self.chosen = chosen
        self.survivors: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if killed(session, lambda: None):
            raise SystemExit("the tests fail without any mutant: mend them first")
        for number, (name, mutate) in self.chosen:
            dead = killed(session, mutate)
            if not dead:
                self.survivors.append(f"{number} {name}")
            line = f"{number:5} {name:12} {'killed' if dead else 'SURVIVED'}"
            print(line, file=sys.__stdout__, flush=True)
        return True


def killed(session: pytest.Session, mutate: Callable[[], None]) -> bool:
    """Whether a test fails with the mutant; in a child process, which stops at the first."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = BROKEN
        with contextlib.suppress(BaseException), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            mutate()
            status = ALIVE
            for item in session.items:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if session.testsfailed:
                    status = DEAD
                    break
        os._exit(status)
    _, waited = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(waited)
    if code not in (ALIVE, DEAD):
        raise SystemExit(f"a mutant ended with {code}: it proves nothing")
    return code == DEAD


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="negate every condition too")
    parser.add_argument("rules", nargs="*", help="numbers, as O-5; default: all")
    chosen = parser.parse_args(arguments)
    todo = [
        (rule.number, mutant)
        for rule in RULES
        if not chosen.rules or rule.number in chosen.rules
        for mutant in mutants(rule, chosen.all)
    ]
    killer = Killer(todo)
    quiet = ["-q", "--no-summary", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    if pytest.main([*quiet, *FILES], plugins=[killer]) != pytest.ExitCode.OK:
        raise SystemExit("the mutants were not run")
    alive = killer.survivors
    print(f"{len(todo)} mutants of {len(RULES)} rules, {len(alive)} survived", *alive)
    return 1 if alive or not todo else 0


if __name__ == "__main__":
    sys.exit(main())
