"""
Other people's programs, each a process of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import browser, tab
from tests.needs import needs
from tests.peers.foreign import SENT, ForeignServer
from tests.peers.played import NodeNotes, Scripts
from tests.peers.scripts import SCRIPTS
from tests.processes import finish, serving

__all__ = [
    "better_sse",
    "browser",
    "foreign",
    "node",
    "node_notes",
    "scripts",
    "sse_starlette",
    "tab",
    "texts",
]

HERE = Path(__file__).parent

# Python becomes the program that is named behind it, under the same process id.
_BECOME = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="session")
@needs("node")
def node() -> str:
    """
    Node, with the packages.
    """
    found = shutil.which("node")
    if found is None:
        pytest.skip("install Node 18 or newer and npm, such as Debian's packages nodejs and npm")
    if not all((HERE / "node_modules" / package).is_dir() for package in ("better-sse", "eventsource")):
        pytest.skip("npm install --prefix tests/peers --no-package-lock --no-audit --no-fund")
    return found


@pytest.fixture(scope="session")
@needs("process")
def scripts() -> Iterator[Scripts]:
    """
    The server that plays the scripts.
    """
    with serving("-m", "tests.peers.server", says="Serving (.*)\n") as [origin]:
        yield Scripts(origin)


@pytest.fixture(scope="session")
def node_notes(node: str, scripts: Scripts) -> NodeNotes:
    """
    What Node's ``eventsource`` notes of all scripts, followed in one process.
    """
    asked = [(scripts.url("node", name), script.types) for name, script in SCRIPTS.items()]
    done = finish([node, HERE / "eventsource.mjs"], input=json.dumps(asked), check=True)
    answer = json.loads(done.stdout)
    records = [[tuple(note) for note in notes] for notes in answer["records"]]
    return NodeNotes(int(answer["version"].split(".")[0]), dict(zip(SCRIPTS, records, strict=True)))


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """
    The file with what the servers of others are to send.
    """
    path = tmp_path_factory.mktemp("peers") / "texts.json"
    path.write_text(json.dumps(SENT), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def better_sse(node: str, texts: str) -> Iterator[ForeignServer]:
    """
    A server in JavaScript, whose data are JSON.
    """
    with serving("-c", _BECOME, node, str(HERE / "better_sse.mjs"), texts, says="Serving (.*)\n") as [origin]:
        yield ForeignServer(origin, json.loads)


@pytest.fixture(scope="session")
@needs("process")
def sse_starlette(texts: str) -> Iterator[ForeignServer]:
    """
    A server for ASGI, whose lines end at CR LF.
    """
    pytest.importorskip("sse_starlette", reason="pip install sse-starlette")
    pytest.importorskip("uvicorn", reason="pip install uvicorn")
    with serving(str(HERE / "starlette_app.py"), texts, says="Serving (.*)\n") as [origin]:
        yield ForeignServer(origin, str)


@pytest.fixture(scope="session", params=["better-sse", "sse-starlette"])
@needs("node", "process")
def foreign(request: pytest.FixtureRequest) -> ForeignServer:
    """
    Each of both, one after the other.
    """
    server: ForeignServer = request.getfixturevalue(request.param.replace("-", "_"))
    return server
