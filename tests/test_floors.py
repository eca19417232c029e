"""
The architecture: a module imports only from its own room and from lower floors, without cycles; and
``tests/`` mirrors ``txsse/``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "txsse"

# The floor of each room. errors.py and _clock.py are below most rooms, so that every room may use them.
FLOORS = {
    "_redact": -2,
    "errors": -1,
    "_version": -1,
    "_clock": -1,
    "_reactor": 0,
    "_waiters": 0,
    "_futures": 0,
    "_threads": 0,
    "_twisted": 0,
    "_unhandled": 1,
    "_randomness": -1,
    "_backoff": 0,
    "_timeslice": 1,
    "_serialize": 0,
    "_output": 0,
    "_extras": -1,
    "_typing": -1,
    "_rate_limited_log": -1,
    "_arguments": -2,
    "protocol": 0,
    "topics": 0,
    "server": 2,
    "web": 1,
    "journal": 1,
    "hub": 3,
    "mercure": 4,
    "client": 2,
    "demo": 4,
    "service": 5,
    "testing": 5,
    "tap": 6,
    "cli": 6,
    "__init__": 7,
    "__main__": 7,
}

# Modules that import something inside a function: the global reactor, or modules that need optional packages.
LATE = {
    "txsse._reactor",
    "txsse.journal.urls",
    "txsse.service.demo",
    "txsse.service.status",
    "txsse.tap",
}

# Modules of more than :data:`MAX_LINES` lines, and why.
LONG = {
    "txsse.errors": "one short class for each error",
    "txsse.hub.hub": "a façade, two thirds of which are the documentation of its methods",
    "txsse.server.upgrade": "its options are documented in it",
}
MAX_LINES = 400

# Modules outside txsse/_twisted/ that import ``typing.Any``, and why.
UNTYPED: dict[str, str] = {}

# The rooms that have a folder in tests/: each test file there is named after a module.
MIRRORED = {each.name for each in PACKAGE.iterdir() if each.is_dir() and each.name != "__pycache__"}

# Test files there that test several modules together.
ACROSS = {
    "cli/test_output",
    "client/test_futures",
    "client/test_hostile",
    "hub/test_machine",
    "hub/test_matching",
    "hub/test_resuming",
    "hub/test_state_machine",
    "mercure/test_delivery",
    "mercure/test_documented",
    "mercure/test_fuzz",
    "mercure/test_machine",
    "mercure/test_openapi",
    "mercure/test_retained",
    "protocol/test_limits",
    "protocol/test_relaying",
    "protocol/test_roundtrip",
    "protocol/test_work",
    "server/test_futures",
    "service/test_clock",
    "service/test_disconnecting",
    "service/test_files",
    "service/test_limits",
    "service/test_making",
    "service/test_process",
    "service/test_proxies",
    "service/test_reaching",
    "service/test_retaining",
    "service/test_systemd",
}

TESTS = Path(__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@cache
def imports_of(path: Path) -> list[tuple[str, ast.stmt]]:
    return list(_imports_of(path))


def _imports_of(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            assert node.module is not None
            yield node.module, node


def uses_any(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.ImportFrom) and any(alias.name == "Any" for alias in node.names))
        or (isinstance(node, ast.Attribute) and node.attr == "Any")
        for node in ast.walk(tree)
    )


class FloorTests:
    def test_every_room_is_known(self) -> None:
        """
        Every room of the package has a floor.
        """
        rooms = {room_of(name_of(path)) for path in MODULES}
        assert rooms <= set(FLOORS)

    @pytest.mark.parametrize("path", MODULES, ids=name_of)
    def test_imports_point_down(self, path: Path) -> None:
        """
        A module imports from other rooms only if they are on a lower floor.
        """
        room = room_of(name_of(path))
        for module, _ in imports_of(path):
            if module.split(".")[0] != "txsse":
                continue
            other = room_of(module)
            if other != room:
                assert FLOORS[other] < FLOORS[room], f"{name_of(path)} imports {module}"

    @pytest.mark.slow
    @pytest.mark.parametrize("path", MODULES, ids=name_of)
    def test_imports_are_at_the_top(self, path: Path) -> None:
        """
        A module imports at its top, and not inside functions, except for the global reactor and optional
        packages.
        """
        tree = ast.parse(path.read_text(encoding="utf-8"))
        hidden = [
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not hidden or name_of(path) in LATE

    @pytest.mark.slow
    @pytest.mark.parametrize("path", MODULES, ids=name_of)
    def test_global_reactor(self, path: Path) -> None:
        """
        Only ``txsse._reactor`` imports the global reactor.
        """
        for module, node in imports_of(path):
            names = {alias.name for alias in getattr(node, "names", [])}
            if module == "twisted.internet.reactor" or (module == "twisted.internet" and "reactor" in names):
                assert path.name == "_reactor.py"

    @pytest.mark.parametrize("path", [p for p in MODULES if "protocol" in p.parts], ids=name_of)
    def test_protocol_is_sans_io(self, path: Path) -> None:
        """
        A module of the protocol imports neither Twisted nor a module that does input and output.
        """
        for module, _ in imports_of(path):
            assert module.split(".")[0] not in {"twisted", "socket", "asyncio", "select", "threading"}

    def test_length(self) -> None:
        """
        Only the modules of a list have more than 400 lines.
        """
        long = {
            name_of(path)
            for path in MODULES
            if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES
        }
        assert long == set(LONG)

    def test_any(self) -> None:
        """
        Only the modules of ``txsse/_twisted/`` and of a list use ``typing.Any``.
        """
        untyped = {
            name_of(path)
            for path in MODULES
            if room_of(name_of(path)) != "_twisted" and uses_any(ast.parse(path.read_text(encoding="utf-8")))
        }
        assert untyped == set(UNTYPED)

    @pytest.mark.parametrize(
        "way", ["from typing import Any", "from typing import Any as A", "x: typing.Any"]
    )
    def test_ways_to_any(self, way: str) -> None:
        """
        Every way to ``typing.Any`` is found, and other names are not.
        """
        assert uses_any(ast.parse(way))
        assert not uses_any(ast.parse(way.replace("Any", "AnyStr")))

    def test_mirror(self) -> None:
        """
        A test file of a room has the folder and the name of a module, or is in a list of those that test
        several.
        """
        modules = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in MODULES}
        without = set()
        for room in MIRRORED:
            for path in (TESTS / room).rglob("test_*.py"):
                test = path.relative_to(TESTS).with_suffix("").as_posix()
                folder, _, name = test.rpartition("/")
                if f"{folder}/{name.removeprefix('test_')}" not in modules:
                    without.add(test)
        assert without == ACROSS

    @pytest.mark.slow
    def test_no_cycles(self) -> None:
        """
        No module imports itself through others.
        """
        names = {name_of(path) for path in MODULES}
        graph = {
            name_of(path): {module for module, _ in imports_of(path) if module in names} for path in MODULES
        }
        done: set[str] = set()

        def visit(name: str, above: tuple[str, ...]) -> None:
            assert name not in above, " -> ".join([*above, name])
            if name not in done:
                for other in graph[name]:
                    visit(other, (*above, name))
                done.add(name)

        for name in graph:
            visit(name, ())
