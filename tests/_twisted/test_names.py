"""
Tests that only one package uses Twisted's private names, and that txsse works without each of them.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import twisted
from tests.processes import finish, python
from txsse._twisted.names import NAMES

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "txsse"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_twisted" not in path.parts)

# The observations if no name is missing: the sinks of streams over the five transports; whether a body that
# is too large is refused before it has arrived; the number of log lines for dropped failures; and the
# responses that are reported as invalid.
ALL = {
    "sinks": ["DirectSink", "DetachedSink", "RequestSink", "RequestSink", "Http2Sink"],
    "early Client": True,
    "early Http2Client": True,
    "lines": 1,
    "invalid": 3,
}

_INDIRECT = {"sinks": ["RequestSink", "RequestSink", "RequestSink", "RequestSink", "Http2Sink"]}
_ATTACHED = {"sinks": ["DirectSink", "DirectSink", "RequestSink", "RequestSink", "Http2Sink"]}
_QUEUED = {"sinks": ["DirectSink", "DetachedSink", "RequestSink", "RequestSink", "PlainHttp2Sink"]}

# The observations that change without a name.
LOST: dict[str, dict[str, Any]] = {
    "_tempDataBuffer": _INDIRECT,
    "dataBuffer": _INDIRECT,
    "_GenericHTTPChannelProtocol": {**_ATTACHED, "early Http2Client": False},
    "_channel": _ATTACHED,
    "_dataBuffer": _ATTACHED,
    **{key: {"early Client": False} for key in ("_command", "_path", "_version")},
    **dict.fromkeys(("_conn", "streamID", "flowControlBlocked", "conn"), _QUEUED),
    **dict.fromkeys(("_consumerBlocked", "_outboundStreamQueues", "_reactor"), _QUEUED),
    **{key: {"early Http2Client": False} for key in ("command", "path")},
    **{key: {"invalid": 2} for key in ("_factory", "_parser", "_giveUp", "ParseError")},
    "_MalformedChunkedDataError": {"invalid": 2},
    **{key: {"lines": 0} for key in ("DebugInfo", "_debugInfo", "failResult")},
}


def used(certificate: Path, *numbers: int) -> dict[str, Any]:
    """
    Return the observations of a process whose Twisted has renamed names.
    """
    ran = finish(
        python("-m", "tests._twisted.renamed", str(certificate), *map(str, numbers)),
        env={"SSL_CERT_FILE": str(certificate)},
    )
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    assert result["problems"] == []
    assert result["renamed"] == len(numbers)
    found: dict[str, Any] = result["found"]
    return found


class NamesTests:
    @pytest.mark.process
    def test_all_there(self, certificate: Path) -> None:
        """
        With Twisted as expected, no feature is lost.
        """
        assert used(certificate) == ALL

    @pytest.mark.process
    @pytest.mark.parametrize("number", range(len(NAMES)), ids=[f"{each.owner}.{each.name}" for each in NAMES])
    def test_one_missing(self, certificate: Path, number: int) -> None:
        """
        Streams over HTTP/1.1, HTTP/2 and TLS, BoundedSite, and the client work if one private name is
        missing.
        """
        assert used(certificate, number) == {**ALL, **LOST.get(NAMES[number].name, {})}

    @pytest.mark.process
    def test_all_missing(self, certificate: Path) -> None:
        """
        Streams, sites and the client work if all private names are missing, and every module can be imported.
        """
        found = used(certificate, *range(len(NAMES)))
        assert found["sinks"] == ["RequestSink"] * 4 + ["PlainHttp2Sink"]
        assert found["lines"] == 0

    def test_table(self) -> None:
        """
        Each private name is listed once, with its purpose and what is lost without it.
        """
        assert len({(each.owner, each.name) for each in NAMES}) == len(NAMES)
        assert all(each.purpose and each.without for each in NAMES)
        assert set(LOST) <= {each.name for each in NAMES}


def private_names_of_twisted() -> set[str]:
    """
    Return all attributes of Twisted's objects that begin with an underscore.
    """
    found: set[str] = set()
    for folder in ("web", "internet", "protocols", "python", "logger", "application"):
        for path in (Path(twisted.__file__).parent / folder).rglob("*.py"):
            if "test" not in path.parts:
                source = path.read_text(encoding="utf-8")
                found.update(re.findall(r"\b(?:self|cls)\.(_[A-Za-z]\w*)", source))
                found.update(re.findall(r"^    (?:def )?(_[A-Za-z]\w*)(?= *[:=(])", source, re.MULTILINE))
    return found - {"_replace", "_asdict"}


PRIVATE = private_names_of_twisted()
# The listed names without an underscore that mean nothing else in txsse.
UNDOCUMENTED = {"dataBuffer", "streamID", "flowControlBlocked", "connHeaders", "allHeadersReceived"}
LOOKUPS = {"getattr", "hasattr", "setattr", "delattr"}


def own_names(tree: ast.AST) -> set[str]:
    """
    Return the private names that a module gives to its own objects.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            for target in [node.target] if isinstance(node, ast.AnnAssign) else node.targets:
                if isinstance(target, ast.Name):
                    found.add(target.id)
    return found


def inherited_names(module: str, name: str) -> set[str]:
    """
    Return the private names that a class inherits from Twisted.
    """
    found: set[str] = set()
    kind = getattr(import_module(module), name, None)
    for base in getattr(kind, "__mro__", ()):
        if base.__module__.startswith("twisted."):
            found.update(each for each in vars(base) if re.match(r"_[a-z]", each))
            found.update(re.findall(r"\bself\.(_[a-z]\w*)", inspect.getsource(base)))
    return found


def uses(path: Path) -> Iterator[str]:
    """
    Yield the private names of Twisted that a module uses.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twisted."):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in names if name.startswith("_"))
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if node.attr in UNDOCUMENTED or (not is_own and node.attr in PRIVATE and node.attr not in own):
                yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOOKUPS:
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            if isinstance(name, str) and (name in UNDOCUMENTED or name in PRIVATE):
                yield name
        elif isinstance(node, ast.ClassDef):
            inherited = inherited_names(module, node.name)
            for each in ast.walk(node):
                if isinstance(each, ast.Attribute) and each.attr in inherited:
                    yield f"{node.name}.{each.attr}"


class SeamTests:
    @pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_no_other_module(self, path: Path) -> None:
        """
        No module outside of txsse._twisted uses a private name of Twisted.
        """
        assert list(uses(path)) == []

    def test_check_finds_uses(self) -> None:
        """
        The check for private names finds their uses in an example.
        """
        found = {name for path in (PACKAGE / "_twisted").glob("*.py") for name in uses(path)}
        table: set[str] = {each.name for each in NAMES if each.name.startswith("_") and each.owner}
        assert table - found == set()
