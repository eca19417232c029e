"""
The examples in the README, in the package's docstring and at the beginning of the documentation's pages run
as they are printed.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site

import txsse
from tests.bare import read_setup
from tests.fakes import Wire
from tests.processes import ROOT, finish, free_port, python, start
from tests.waiting import PATIENCE, wait_until

README = (ROOT / "README.rst").read_text(encoding="utf-8")

reactor: Any = global_reactor


def blocks(kind: str, text: str = README) -> list[str]:
    """
    Return the code blocks of one language in a text.
    """
    found = re.findall(rf"\.\. code-block:: {kind}\n\n((?:   .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in found]


@contextmanager
def running(program: str) -> Iterator[str]:
    """
    Run a program that listens on port 8080, on a free port instead, and yield its URL.
    """
    port = free_port()
    assert '"tcp:8080"' in program
    program = program.replace('"tcp:8080"', f'"tcp:{port}:interface=127.0.0.1"')
    with start(python("-c", program)):
        yield f"http://127.0.0.1:{port}/"


def read_events(url: str, count: int, **headers: str) -> list[txsse.ServerSentEvent]:
    """
    Read this many events, as soon as a server answers.
    """

    def ask() -> Any:
        with suppress(OSError):
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)

    response = wait_until(ask, what=f"a server answers at {url}")
    parser = txsse.EventStreamParser()
    events: list[txsse.ServerSentEvent] = []
    with response:
        while len(events) < count:
            events += parser.feed(response.read1())
    return events


class ReadmeTests:
    @pytest.mark.process
    def test_first_program(self) -> None:
        """
        The README's first program counts, and resumes after a client's last event ID.
        """
        with running(blocks("python")[0]) as url:
            assert [event.id for event in read_events(url + "events", 2)] == ["1", "2"]
            headers = {"Last-Event-ID": "41"}
            assert read_events(url + "events", 1, **headers) == [
                txsse.ServerSentEvent("number 42", "count", "42")
            ]
            # A client may send an id of another server: the program starts from the beginning.
            for foreign in ("", "order-17", "-1", "1e3", "²"):
                headers = {"Last-Event-ID": foreign.encode().decode("latin-1")}
                assert [event.id for event in read_events(url + "events", 1, **headers)] == ["1"]

    def test_other_programs(self) -> None:
        """
        The README's programs are valid Python, and import only public names.
        """
        for block in blocks("python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module == "txsse":
                    assert {alias.name for alias in node.names} <= set(txsse.__all__)

    def test_klein_route(self, plain: Wire) -> None:
        """
        The README's Klein route sends an event, and its stream stays open until the client disconnects.
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
        The README's commands for the demo and for the tests are one line each, in the form that .ci/run looks
        for.
        """
        demo, tests = (block.strip() for block in blocks("console"))
        assert "\n" not in demo + tests
        assert demo.startswith("python3 -m venv ") and "--demo" in demo
        assert tests.startswith("python3 -m venv ") and tests.endswith("-m pytest")

    @pytest.mark.process
    def test_smallest_server_of_the_docstring(self) -> None:
        """
        The server in the package's docstring sends the time.
        """
        doc = textwrap.dedent((txsse.__doc__ or "").partition("::\n")[2])
        with running(doc) as url:
            (event,) = read_events(url, 1)
            assert event.data.isdigit()


class DescriptionTests:
    """
    The README as the description on a package index.
    """

    def test_relative_links(self) -> None:
        """
        The package's description has no relative link, but the path of the file, which the source
        distribution contains.
        """
        description = str(read_setup()["long_description"])
        targets = re.findall(r"<([^>`]+)>`_|^\.\. _[^:]+: (\S+)$", description, re.MULTILINE)
        assert {(first or second).partition(":")[0] for first, second in targets} == {"https"}
        assert "Persistent journals (``docs/journals.rst``)" in description
        assert "is in ``docs/hub-benchmark.rst``" in " ".join(description.split())

    def test_links_of_the_repository(self) -> None:
        """
        Each relative link of the README names a file or directory that exists.
        """
        targets = re.findall(r"<(?!https?:)([^>`]+)>`_", README)
        assert len(targets) > 5
        assert [target for target in targets if not (ROOT / target).exists()] == []


def first(page: str, kind: str = "python") -> str:
    """
    Return the first code block of a page in docs/.
    """
    return blocks(kind, (ROOT / "docs" / f"{page}.rst").read_text(encoding="utf-8"))[0]


class FirstExampleTests:
    """
    The first example of each page in docs/.
    """

    def test_testing(self) -> None:
        """
        The test that the page about testing shows passes.
        """
        names: dict[str, Any] = {}
        exec(first("testing"), names)
        names["test_ticker"]()

    @pytest.mark.process
    def test_hub(self) -> None:
        """
        The server that the page about hubs shows publishes the time.
        """
        with running(first("hub")) as url:
            one, other = read_events(f"{url}events", 2)
        assert int(one.data) <= int(other.data)

    @pytest.mark.process
    def test_own_service(self) -> None:
        """
        The program that the page about services shows publishes the time, and ends its streams when it stops.
        """
        program = first("own-service")
        port = free_port()
        assert '"tcp:8080"' in program
        program = program.replace('"tcp:8080"', f'"tcp:{port}:interface=127.0.0.1"')
        with start(python("-c", program)) as running:
            url = f"http://127.0.0.1:{port}/events"
            assert len(read_events(url, 2)) == 2
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                running.stop()
                # This fails if the response is not complete.
                assert b"retry: " in response.read()
            assert "Traceback" not in running.output

    @pytest_twisted.ensureDeferred
    async def test_client(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        The client that its page shows prints events.
        """
        shown = first("client")
        assert '"https://example.org/events"' in shown
        names: dict[str, Any] = {}
        hub = txsse.Hub()
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Site(hub.resource("news")))
        url = f"http://127.0.0.1:{port.getHost().port}/"
        exec(shown.replace('"https://example.org/events"', repr(url)), names)
        following = Deferred.fromCoroutine(names["follow"]()).addErrback(lambda failure: None)
        printed = ""
        try:
            while "new" not in printed:
                # The client may connect late: then it prints the next update.
                await hub.publish("news", "new", event="headline")
                await deferLater(reactor, 0.05)
                printed += capsys.readouterr().out
        finally:
            following.cancel()
            await hub.stop(deadline=1.0)
            await port.stopListening()
        assert re.match(r"headline \S+ new\n", printed)

    @pytest_twisted.ensureDeferred
    async def test_journals(self, tmp_path: Path) -> None:
        """
        The hub that the page about journals shows records into its file.
        """
        path = tmp_path / "hub.sqlite"
        shown = first("journals")
        assert "/var/lib/news/hub.sqlite" in shown
        names: dict[str, Any] = {}
        exec(shown.replace("/var/lib/news/hub.sqlite", str(path)), names)
        await names["hub"].publish("news", "new")
        await names["hub"].stop()
        assert path.stat().st_size

    def test_mercure(self) -> None:
        """
        The code that the page about Mercure shows puts a hub below the root resource.
        """
        pytest.importorskip("jwt", reason="pip install 'txsse[mercure]'")
        root = Resource()
        exec(first("mercure"), {"root": root, "secret": "0123456789abcdef0123456789abcdef"})
        assert root.listStaticNames() == [b".well-known"]

    @pytest.mark.process
    def test_deployment(self, tmp_path: Path) -> None:
        """
        The configuration that the page about deployment shows first is valid.
        """
        pytest.importorskip("jwt", reason="pip install 'txsse[mercure]'")
        if shutil.which("openssl") is None:
            pytest.skip("install Debian's package openssl")
        commands = [line.removeprefix("$ ") for line in first("deployment", "console").splitlines()]
        done = finish(
            ["bash", "-ec", "\n".join(commands).replace("twist ", f"{sys.executable} -m twisted ", 1)],
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert "https://hub.example.org/.well-known/mercure" in done.stdout + done.stderr
