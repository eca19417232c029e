"""
What the README and the package's docstring show runs as it stands there.
"""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import txsse
from tests.bare import read_setup
from tests.fakes import Wire

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text(encoding="utf-8")

# How long a process may take to come up, in seconds; it is no measure of speed.
PATIENCE = 60.0


def blocks(kind: str, text: str = README) -> list[str]:
    """
    The blocks of code of one kind.
    """
    found = re.findall(rf"\.\. code-block:: {kind}\n\n((?:   .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in found]


@contextmanager
def running(program: str) -> Iterator[str]:
    """
    Run a program that listens on port 8080, on a free port instead.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert '"tcp:8080"' in program
    program = program.replace('"tcp:8080"', f'"tcp:{port}:interface=127.0.0.1"')
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def read_events(url: str, count: int, **headers: str) -> list[txsse.ServerSentEvent]:
    """
    Read some events, as soon as somebody serves them.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
            break
        except OSError:
            assert time.monotonic() < deadline, "nobody serves it"
            time.sleep(0.1)
    parser = txsse.EventStreamParser()
    events: list[txsse.ServerSentEvent] = []
    with response:
        while len(events) < count:
            events += parser.feed(response.read1())
    return events


class ReadmeTests:
    def test_first_program(self) -> None:
        """
        It counts, and goes on where a client left off.
        """
        with running(blocks("python")[0]) as url:
            assert [event.id for event in read_events(url + "events", 2)] == ["1", "2"]
            headers = {"Last-Event-ID": "41"}
            assert read_events(url + "events", 1, **headers) == [
                txsse.ServerSentEvent("number 42", "count", "42")
            ]
            # A client may come with an id of another server's: it begins again.
            for foreign in ("", "order-17", "-1", "1e3", "²"):
                headers = {"Last-Event-ID": foreign.encode().decode("latin-1")}
                assert [event.id for event in read_events(url + "events", 1, **headers)] == ["1"]

    def test_other_programs(self) -> None:
        """
        They are Python, and use names that exist.
        """
        for block in blocks("python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module == "txsse":
                    assert {alias.name for alias in node.names} <= set(txsse.__all__)

    def test_klein_route(self, plain: Wire) -> None:
        """
        The stream is open until its client goes.
        """
        klein = pytest.importorskip("klein", reason="pip install 'txsse[test]'")
        (block,) = (block for block in blocks("python") if "@app.route" in block)
        app = klein.Klein()
        exec(block, {"app": app})
        client = plain.connect(app.resource()).request("/events")
        plain.reactor.run_soon()
        client.pump()
        assert client.status == 200 and b"data: It works.\n\n" in client.body
        assert not client.ended
        client.disconnect()

    def test_two_commands(self) -> None:
        """
        Each is one line, and the second is the one that CI runs.
        """
        demo, tests = (block.strip() for block in blocks("console"))
        assert "\n" not in demo + tests
        assert demo.startswith("python3 -m venv ") and "--demo" in demo
        assert tests.startswith("python3 -m venv ") and tests.endswith("-m pytest")

    def test_smallest_server_of_the_docstring(self) -> None:
        """
        It sends the time.
        """
        doc = textwrap.dedent((txsse.__doc__ or "").partition("::\n")[2])
        with running(doc) as url:
            (event,) = read_events(url, 1)
            assert event.data.isdigit()


class DescriptionTests:
    """
    The README as a package index shows it.
    """

    def test_relative_links(self) -> None:
        """
        There is none: they name the file instead, which the source distribution has.
        """
        description = str(read_setup()["long_description"])
        targets = re.findall(r"<([^>`]+)>`_|^\.\. _[^:]+: (\S+)$", description, re.MULTILINE)
        assert {(first or second).partition(":")[0] for first, second in targets} == {"https"}
        assert "Journals that last (``docs/journals.rst``)" in description
        assert "is in ``docs/hub-benchmark.rst``" in " ".join(description.split())

    def test_links_of_the_repository(self) -> None:
        """
        Each names a file or directory that exists.
        """
        targets = re.findall(r"<(?!https?:)([^>`]+)>`_", README)
        assert len(targets) > 5
        assert [target for target in targets if not (ROOT / target).exists()] == []


class TestingDocsTests:
    def test_first_example(self) -> None:
        """
        The test that it shows passes.
        """
        text = (ROOT / "docs" / "testing.rst").read_text(encoding="utf-8")
        names: dict[str, Any] = {}
        exec(blocks("python", text)[0], names)
        names["test_ticker"]()
