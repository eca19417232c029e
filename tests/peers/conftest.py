"""
Fixtures of the tests with other projects' clients and servers, each of which runs in its own process.
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

# Replaces Python with the program in its arguments, under the same process id.
_BECOME = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="session")
@needs("node")
def node() -> str:
    """
    Return the path of Node; skip the test if Node or a package is missing.
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
    Run the server that plays the scripts.
    """
    with serving("-m", "tests.peers.server", says="Serving (.*)\n") as [origin]:
        yield Scripts(origin)


@pytest.fixture(scope="session")
def node_notes(node: str, scripts: Scripts) -> NodeNotes:
    """
    Return the notes of Node's ``eventsource`` for all scripts, which one process follows at once.
    """
    asked = [(scripts.url("node", name), script.types) for name, script in SCRIPTS.items()]
    done = finish([node, HERE / "eventsource.mjs"], input=json.dumps(asked), check=True)
    answer = json.loads(done.stdout)
    records = [[tuple(note) for note in notes] for notes in answer["records"]]
    return NodeNotes(int(answer["version"].split(".")[0]), dict(zip(SCRIPTS, records, strict=True)))


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """
    Return the path of a JSON file with the events that the foreign servers send.
    """
    path = tmp_path_factory.mktemp("peers") / "texts.json"
    path.write_text(json.dumps(SENT), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
@needs("node", "process")
def better_sse(node: str, texts: str) -> Iterator[ForeignServer]:
    """
    Run a server on ``better-sse`` for Node, which sends its data as JSON.
    """
    with serving("-c", _BECOME, node, str(HERE / "better_sse.mjs"), texts, says="Serving (.*)\n") as [origin]:
        yield ForeignServer(origin, json.loads)


@pytest.fixture(scope="session")
@needs("process")
def sse_starlette(texts: str) -> Iterator[ForeignServer]:
    """
    Run a server on ``sse-starlette`` for ASGI, which ends its lines with CR LF.
    """
    pytest.importorskip("sse_starlette", reason="pip install sse-starlette")
    pytest.importorskip("uvicorn", reason="pip install uvicorn")
    with serving(str(HERE / "starlette_app.py"), texts, says="Serving (.*)\n") as [origin]:
        yield ForeignServer(origin, str)


@pytest.fixture(scope="session", params=["better-sse", "sse-starlette"])
@needs("node", "process")
def foreign(request: pytest.FixtureRequest) -> ForeignServer:
    """
    Return each of the two foreign servers in turn.
    """
    server: ForeignServer = request.getfixturevalue(request.param.replace("-", "_"))
    return server
