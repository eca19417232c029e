"""
``twist txsse``: its options and its service, on a fake reactor, and as a process over real sockets.
"""

from __future__ import annotations

import re
import signal
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, capturedLogs
from twisted.plugin import getPlugins

import txsse
from tests.fakes import Client, Wire
from tests.journal.redis_server import RedisServer
from tests.processes import TWIST, Program, finish, free_port, start
from tests.web.listening_fakes import FakeEndpoint, FakePort
from txsse import EventStreamParser, tap
from txsse.service.config import read_config
from txsse.tap import Options, makeService
from txsse.web import listening
from txsse.web.site import ClosingSite

_log = Logger()


def options(*argv: str) -> Options:
    made = Options()
    made.parseOptions(argv)
    return made


def one_line(exit: pytest.ExceptionInfo[SystemExit]) -> str:
    """
    Return the line that the process would exit with.
    """
    line = exit.value.code
    assert isinstance(line, str)
    assert line.startswith("twist txsse: ")
    assert line.isprintable()
    return line


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryReactorClock:
    reactor = MemoryReactorClock()
    monkeypatch.setattr(tap, "global_reactor", lambda: reactor)
    return reactor


class PluginTests:
    def test_found(self) -> None:
        """
        Twisted finds the plugin ``txsse``.
        """
        [plugin] = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "txsse"]
        assert plugin.options is Options
        assert plugin.makeService is makeService


class OptionsTests:
    def test_default_endpoint(self) -> None:
        """
        Without --listen, the service listens only on this machine's loopback address.
        """
        config, _ = read_config(options("--demo").sources())
        assert config.listen == ("tcp:8080:interface=127.0.0.1",)

    def test_several_endpoints(self) -> None:
        """
        With --listen, the service listens on the given endpoints and no other.
        """
        made = options("--listen=tcp:1", "--demo", "--listen", "ssl:2:privateKey=x.pem")
        config, _ = read_config(made.sources())
        assert config.listen == ("tcp:1", "ssl:2:privateKey=x.pem")

    def test_no_key(self, memory: MemoryReactorClock) -> None:
        """
        Without a key, no client could publish: the service exits with one line that names the options.
        """
        pytest.importorskip("jwt", reason="pip install 'txsse[mercure]'")
        with pytest.raises(SystemExit) as exit:
            makeService(options("--listen=tcp:0"))
        line = one_line(exit)
        assert "--key-file" in line and "--demo" in line

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            (["--demo", "--nonsense"], "--nonsense"),
            (["--demo", "-x"], "-x"),
            (["--demo", "--listen"], "--listen"),
            (["--demo=yes"], "--demo"),
            (["--demo", "surplus"], "'surplus'"),
            (["--demo", "sur\nplus"], "'sur\\nplus'"),
            (["--demo", "--non\nsense"], "--non sense"),
            (["--demo", "--non\x1b[2Jsense\u202e"], "--non\\u001b[2Jsense\\u202e"),
        ],
    )
    def test_wrong_command_line(self, argv: list[str], said: str) -> None:
        """
        A wrong command line is one line that names the mistake and points to the help.
        """
        with pytest.raises(SystemExit) as exit:
            options(*argv)
        line = one_line(exit)
        assert said in line and line.endswith("; see twist txsse --help")

    @pytest.mark.parametrize("name", ["key", "publish-key", "subscribe-key"])
    @pytest.mark.parametrize("equals", [True, False])
    def test_secret(self, name: str, equals: bool) -> None:
        """
        A secret on the command line is refused, and neither shown nor taken for a file name.
        """
        argv = [f"--{name}=hunter2"] if equals else [f"--{name}", "hunter2"]
        with pytest.raises(SystemExit) as exit:
            options("--listen=tcp:1", *argv)
        line = one_line(exit)
        variable = f"TXSSE_{name.replace('-', '_').upper()}"
        assert f"put the secret into {variable}, or into a file for --{name}-file" in line
        assert "hunter2" not in line

    @pytest.mark.parametrize("name", ["ke", "k", "publish-k", "subscribe-ke"])
    def test_abbreviated_secret(self, name: str) -> None:
        """
        An abbreviated option for a secret is refused, and the secret is not shown.
        """
        with pytest.raises(SystemExit) as exit:
            options(f"--{name}", "hunter2")
        line = one_line(exit)
        assert "not a unique prefix" in line and "hunter2" not in line

    def test_password(self) -> None:
        """
        A password in a surplus argument is not shown.
        """
        with pytest.raises(SystemExit) as exit:
            options("redis://admin:hunter2@h")
        assert "'redis://admin:***@h'" in one_line(exit)

    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        The help lists the options and the default endpoint.
        """
        with pytest.raises(SystemExit) as exit:
            options("--help")
        assert not exit.value.code
        out = " ".join(capsys.readouterr().out.split())
        assert all(
            word in out
            for word in (
                *("--listen=", "--demo", "--version", "tcp:8080:interface=127.0.0.1"),
                "Refused: use TXSSE_KEY or --key-file.",
            )
        )

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        --version prints the version of txsse, and not Twisted's.
        """
        with pytest.raises(SystemExit) as exit:
            options("--version")
        assert not exit.value.code
        assert capsys.readouterr().out == f"txsse {txsse.__version__}\n"


class MakeServiceTests:
    def test_listens_on_all(self, memory: MemoryReactorClock) -> None:
        """
        The service listens on each of its endpoints when it starts, and not before.
        """
        service = makeService(options("--demo", "--listen=tcp:1:interface=127.0.0.1", "--listen=tcp:2"))
        assert memory.tcpServers == []
        service.startService()
        assert [(server[0], server[3]) for server in memory.tcpServers] == [(1, "127.0.0.1"), (2, "")]

    def test_listens_once_under_twistd(self, memory: MemoryReactorClock) -> None:
        """
        Under twistd, which starts a service once with privileges and once without, the service listens once.
        """
        service = makeService(options("--demo", "--listen=tcp:80"))
        service.privilegedStartService()
        assert len(memory.tcpServers) == 1
        service.startService()
        assert len(memory.tcpServers) == 1

    def test_logs_urls(self, memory: MemoryReactorClock) -> None:
        """
        The service logs the URLs of the demo and of the hub.
        """
        pytest.importorskip("jwt", reason="pip install 'txsse[mercure]'")
        with capturedLogs() as logs:
            makeService(options("--demo", "--listen=tcp:8080")).startService()
        demo, hub = [log for log in logs if "url" in log]
        assert demo["url"] == "http://127.0.0.1:8080/"
        assert hub["url"] == "http://127.0.0.1:8080/.well-known/mercure"

    def test_stops(self, memory: MemoryReactorClock) -> None:
        """
        A service without clients stops in the next reactor turn, and leaves no delayed call.
        """
        service = makeService(options("--demo", "--listen=tcp:8080"))
        service.startService()
        stopped = service.stopService()
        memory.advance(0)
        assert stopped.called
        assert memory.getDelayedCalls() == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("endpoint", "said"),
        [
            ("foo:", "Unknown endpoint type: 'foo'"),
            ("", "Unknown endpoint type"),
            ("tcp:", "'' is not a number"),
            ("tcp:abc", "'abc' is not a number"),
            ("tcp", "missing 1 required positional argument: 'port'"),
            ("tcp:1:intrface=x", "unexpected keyword argument 'intrface'"),
            ("tcp:1:2:3:4:5", "positional arguments"),
            ("tcp:1\\", "write it like"),
            ("systemd:domain=INET:index=99", "write it like"),
        ],
    )
    def test_malformed_endpoint(self, memory: MemoryReactorClock, endpoint: str, said: str) -> None:
        """
        A malformed endpoint is one line that says what is wrong and shows how to write it.
        """
        with pytest.raises(SystemExit) as exit:
            makeService(options("--demo", f"--listen={endpoint}"))
        line = one_line(exit)
        assert repr(endpoint) in line and said in line
        assert line.endswith("write it like tcp:8080:interface=127.0.0.1 or ssl:8443:privateKey=server.pem")
        assert "()" not in line

    def test_missing_key(self, memory: MemoryReactorClock) -> None:
        """
        A missing key file is one line that names the file.
        """
        pytest.importorskip("OpenSSL", reason="pip install 'txsse[tls]'")
        with pytest.raises(SystemExit) as exit:
            makeService(options("--demo", "--listen=ssl:8443:privateKey=missing.pem"))
        line = one_line(exit)
        assert f"{Path('missing.pem').absolute()} (No such file or directory)" in line and "PEM" in line

    def test_broken_key(self, memory: MemoryReactorClock, tmp_path: Path) -> None:
        """
        A key file without a key is one line that says what it should contain.
        """
        pytest.importorskip("OpenSSL", reason="pip install 'txsse[tls]'")
        key = tmp_path / "broken.pem"
        key.write_text("nothing of the kind")
        with pytest.raises(SystemExit) as exit:
            makeService(options("--demo", f"--listen=ssl:8443:privateKey={key}"))
        assert "PEM" in one_line(exit)

    def test_no_openssl(self, memory: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An endpoint that needs pyOpenSSL, which is missing, is one line that names the extra to install.
        """

        def refuse(reactor: object, description: str) -> None:
            raise ModuleNotFoundError("No module named 'OpenSSL'", name="OpenSSL")

        monkeypatch.setattr(listening, "serverFromString", refuse)
        with pytest.raises(SystemExit) as exit:
            makeService(options("--demo", "--listen=ssl:8443"))
        assert one_line(exit).endswith("TLS needs pyOpenSSL: pip install 'txsse[tls]'")


class ServiceTests:
    def test_stops_with_open_streams(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        At shutdown each stream ends properly, its connection is closed, and the service has stopped.
        """
        endpoint = FakeEndpoint(port := FakePort())
        monkeypatch.setattr(tap, "global_reactor", lambda: plain.reactor)
        monkeypatch.setattr(listening, "serverFromString", lambda reactor, description: endpoint)
        sites: list[ClosingSite] = []
        monkeypatch.setattr(endpoint, "listen", lambda site: sites.append(site) or endpoint.listening)  # type: ignore[func-returns-value]
        service = makeService(options("--demo"))
        service.startService()
        [site] = sites
        clients = [
            Client(plain, site).request(f"/streams/{name}")
            for name in ("clock", "events", "progress", "reconnect")
        ]
        stopped = service.stopService()
        assert not any(client.ended for client in clients)
        port.stopped.callback(None)
        for client in clients:
            client.pump()
            assert client.ended and not client.connected and not client.reset
        assert stopped.called


@contextmanager
def running(*argv: str, twist: tuple[str, ...] = ()) -> Iterator[tuple[Program, list[str]]]:
    """
    Run ``twist txsse`` with one ``--listen`` or more, and wait until it listens on all of them.

    :returns: the program, and its URLs.
    """
    # The script and not ``python -m twisted``, which needs pkg_resources in Twisted 22.10.
    with start([TWIST, *twist, "--log-format=text", "txsse", *argv]) as program:
        count = sum(argument.startswith("--listen") for argument in argv)
        yield program, program.wait_for(r"The demo is at (\S+)", count)


def stop(program: Program, number: signal.Signals = signal.SIGTERM) -> str:
    """
    Stop a program with a signal, and return its log.
    """
    status = program.stop(number)
    assert program.err == ""
    # Twisted 24.7 and later re-raises the signal, as shells expect.
    assert status in (0, -number)
    return program.out


def open_stream(url: str, name: str, context: ssl.SSLContext | None = None) -> socket.socket:
    """
    Open a stream, and read up to its first event.
    """
    found = re.fullmatch(r"https?://([\d.]+):(\d+)/", url)
    assert found is not None
    client = socket.create_connection((found[1], int(found[2])), timeout=60)
    if context is not None:
        client = context.wrap_socket(client)
    client.sendall(f"GET /streams/{name} HTTP/1.1\r\nHost: {found[1]}:{found[2]}\r\n\r\n".encode())
    received = b""
    while b"event: connected\n" not in received:
        data = client.recv(65536)
        assert data, received
        received += data
    return client


def read_all(client: socket.socket) -> bytes:
    """
    Read to the end of a connection. A reset raises.
    """
    received = b""
    while data := client.recv(65536):
        received += data
    client.close()
    return received


def trusting(*protocols: str) -> ssl.SSLContext:
    """
    Return a TLS client's settings that accept any certificate.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def publish(url: str, text: str) -> None:
    """
    Publish a message, as the demo's page does.
    """
    request = urllib.request.Request(
        f"{url}hub/publish",
        data=urlencode({"data": text}).encode(),
        headers={"Origin": url.rstrip("/"), "Sec-Fetch-Site": "same-origin"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def read_until(url: str, text: str) -> list[str]:
    """
    Read the hub's stream from its beginning until a message arrives, and return all messages.
    """
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as client:
        client.request("GET", "/streams/hub", headers={"Last-Event-ID": "earliest"})
        response = client.getresponse()
        parser = EventStreamParser()
        texts: list[str] = []
        while text not in texts:
            texts += [event.data for event in parser.feed(response.read1()) if event.event == "message"]
        response.close()
        return texts


@pytest.mark.process
class JournalTests:
    listen = "--listen=tcp:0:interface=127.0.0.1"

    def test_file(self, tmp_path: Path) -> None:
        """
        A message recorded in SQLite is replayed by the next process, even if the first was killed.
        """
        journal = f"--journal=sqlite:{tmp_path}/hub.sqlite"
        with running("--demo", self.listen, journal) as (program, [url]):
            publish(url, "one")
            program.kill()
        with running("--demo", self.listen, journal) as (program, [url]):
            publish(url, "two")
            assert read_until(url, "two") == ["one", "two"]
            log = stop(program)
        assert "Traceback" not in log

    def test_redis(self, shared_redis: RedisServer) -> None:
        """
        Two processes that share a Redis serve the same messages, in the same order.
        """
        pytest.importorskip("hiredis", reason="pip install 'txsse[redis]'")
        journal = f"--journal={shared_redis.url}/7"
        with (
            running("--demo", self.listen, journal) as (first, [one]),
            running("--demo", self.listen, journal) as (second, [other]),
        ):
            publish(one, "one")
            publish(other, "two")
            assert read_until(one, "two") == read_until(other, "two") == ["one", "two"]
            for program in (first, second):
                assert "Traceback" not in stop(program)

    def test_redis_is_unavailable(self) -> None:
        """
        The service runs without its Redis, and logs one line about it.
        """
        pytest.importorskip("hiredis", reason="pip install 'txsse[redis]'")
        with running("--demo", self.listen, f"--journal=redis://127.0.0.1:{free_port()}") as (program, [url]):
            open_stream(url, "clock").close()
            log = stop(program)
        assert log.count("cannot connect to 127.0.0.1") == 1
        assert "Traceback" not in log

    def test_invalid_journal(self) -> None:
        """
        An invalid --journal makes the service exit with one line.
        """
        done = finish([TWIST, "txsse", "--demo", "--journal=mongodb://localhost"])
        assert done.returncode == 1
        assert "'mongodb://localhost' is not a journal; use memory:, sqlite:PATH" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.process
class ProcessTests:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_serves_and_shuts_down(self, number: signal.Signals) -> None:
        """
        The process serves the page and the streams, and on SIGTERM or SIGINT ends each stream properly.
        """
        with running("--demo", "--listen=tcp:0:interface=127.0.0.1") as (program, [url]):
            with urllib.request.urlopen(url, timeout=60) as page:
                assert page.status == 200
                assert b"EventSource" in page.read()
            streams = [open_stream(url, name) for name in ("clock", "events", "progress", "reconnect")]
            program.process.send_signal(number)
            for stream in streams:
                assert read_all(stream).endswith(b"0\r\n\r\n")
            log = stop(program, number)
        assert "Main loop terminated" in log
        assert "Traceback" not in log and "rror" not in log

    def test_several_endpoints_and_another_reactor(self, certificate: Path) -> None:
        """
        The process serves TCP and TLS endpoints on a reactor that is not the default one.
        """
        plain = "--listen=tcp:0:interface=127.0.0.1"
        tls = f"--listen=ssl:0:interface=127.0.0.1:privateKey={certificate}"
        with running("--demo", plain, tls, twist=("--reactor=poll",)) as (program, urls):
            assert [url.partition(":")[0] for url in urls] == ["http", "https"]
            over_tcp = open_stream(urls[0], "clock")
            over_tls = open_stream(urls[1], "clock", trusting("http/1.1"))
            program.process.terminate()
            for stream in (over_tcp, over_tls):
                assert read_all(stream).endswith(b"0\r\n\r\n")
            stop(program)

    def test_http2(self, certificate: Path) -> None:
        """
        The process ends an HTTP/2 stream properly on SIGTERM.
        """
        h2 = pytest.importorskip("h2.connection", reason="pip install 'txsse[http2]'")
        events = pytest.importorskip("h2.events")
        tls = f"--listen=ssl:0:interface=127.0.0.1:privateKey={certificate}"
        with running("--demo", tls) as (program, [url]):
            port = int(url.rpartition(":")[2].strip("/"))
            raw = socket.create_connection(("127.0.0.1", port), timeout=60)
            client = trusting("h2").wrap_socket(raw)
            assert client.selected_alpn_protocol() == "h2"
            connection = h2.H2Connection()
            connection.initiate_connection()
            head = {
                ":method": "GET",
                ":scheme": "https",
                ":authority": "localhost",
                ":path": "/streams/clock",
            }
            connection.send_headers(1, list(head.items()), end_stream=True)
            seen: list[Any] = []
            body = b""
            terminating = False
            while not any(isinstance(event, events.StreamEnded) for event in seen):
                client.sendall(connection.data_to_send())
                data = client.recv(65536)
                assert data, "the connection ended before the stream did"
                seen += connection.receive_data(data)
                body = b"".join(event.data for event in seen if isinstance(event, events.DataReceived))
                if b"event: connected\n" in body and not terminating:
                    program.process.terminate()
                    terminating = True
            client.close()
            stop(program)

    def test_endpoint_in_use(self) -> None:
        """
        A port that is in use is one line that says so.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = self.refused("--demo", f"--listen=tcp:{port}:interface=127.0.0.1")
        assert f"'tcp:{port}:interface=127.0.0.1': it is in use; stop the process that listens there" in line

    @pytest.mark.parametrize(
        ("argv", "said"),
        [
            ([], "--demo"),
            (["--demo", "--nonsense"], "--nonsense"),
            (["--demo", "--listen=foo:"], "'foo:'"),
            (["--demo", "--listen=tcp:0:interface=192.0.2.1"], "does not have that address"),
            (["--demo", "--listen=tcp:0", "--listen=unix:/nonexistent/socket"], "No such file"),
        ],
    )
    def test_wrong_configuration(self, argv: list[str], said: str) -> None:
        """
        A wrong configuration makes the process exit with one line on stderr, and a status that is not 0.
        """
        assert said in self.refused(*argv)

    def refused(self, *argv: str) -> str:
        done = finish([TWIST, "txsse", *argv])
        assert done.returncode > 0
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        assert line.startswith("twist txsse: ")
        return line
