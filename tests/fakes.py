"""
A web server without a network: Twisted's own transports and protocols on a fake socket and a fake clock.

A test gets a :class:`Wire` of one kind, which makes :class:`Client` objects. They speak real HTTP/1.0,
HTTP/1.1 or HTTP/2 to a real ``Site``. Time passes and bytes arrive only when the test says so.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import Site

try:
    import h2.config
    import h2.connection
    import h2.events
    import h2.settings
except ImportError:
    h2 = None  # type: ignore[assignment]

from txsse import Upgrader
from txsse.testing import WallClock


class FakeReactor(WallClock):
    """
    A clock that also records readers, writers and shutdown triggers, and can stop.

    :ivar triggers: the shutdown triggers. A test that stops the reactor declares that it provides
        ``IReactorCore``; otherwise the code under test takes it for a mere clock, and adds no trigger.
    """

    def __init__(self) -> None:
        super().__init__()
        self.triggers: list[tuple[str, str, Callable[[], Any]]] = []
        self.writers: set[object] = set()
        self.readers: set[object] = set()

    def addReader(self, reader: object) -> None:  # noqa: N802
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:  # noqa: N802
        self.readers.discard(reader)

    def addWriter(self, writer: object) -> None:  # noqa: N802
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:  # noqa: N802
        self.writers.discard(writer)

    def addSystemEventTrigger(self, *trigger: Any) -> object:  # noqa: N802
        self.triggers.append(trigger)  # type: ignore[arg-type]
        return trigger

    def removeSystemEventTrigger(self, trigger: Any) -> None:  # noqa: N802
        self.triggers.remove(trigger)

    def stop(self) -> Deferred[Any]:
        """
        Call the shutdown triggers, and return a Deferred that fires when they are done.
        """
        due, self.triggers = self.triggers, []
        assert all(trigger[:2] == ("before", "shutdown") for trigger in due)
        return gatherResults([maybeDeferred(call) for _, _, call in due])

    def run_soon(self) -> None:
        """
        Run the calls that are due now, and those that they make due now.
        """
        for _ in range(10_000):
            due = [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]
            if not due:
                return
            self.advance(0)
        raise AssertionError("calls that are due now keep adding calls")


class FakeSocket:
    """
    The server's end of a connection.

    :ivar room: the number of bytes that the kernel's send buffer still takes; ``None`` for any number.
    """

    family = socket.AF_INET

    def __init__(self) -> None:
        self.incoming = b""
        self.outgoing = b""
        self.room: int | None = None
        self.closed = False
        self.reset = False

    def send(self, data: bytes) -> int:
        if self.room is not None:
            if not self.room:
                raise BlockingIOError(11, "would block")
            data = data[: self.room]
            self.room -= len(data)
        self.outgoing += bytes(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        return data

    def close(self) -> None:
        self.closed = True

    def setsockopt(self, level: int, option: int, value: object) -> None:
        if option == socket.SO_LINGER:
            # Twisted makes the kernel send a reset this way.
            self.reset = True

    def getsockopt(self, *_: object) -> int:
        return 0

    def fileno(self) -> int:
        return -1 if self.closed else 99

    def setblocking(self, flag: bool) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)


class Client:
    """
    The client's end of one connection, over HTTP/1.

    :ivar status: the status of the response, 0 before it arrives.
    :ivar headers: the fields of the response, with names in lower case.
    :ivar body: the body received so far, without any framing.
    :ivar ended: whether the response ended properly.
    """

    version = b"HTTP/1.1"

    def __init__(self, wire: Wire, site: Site) -> None:
        self.reactor = wire.reactor
        self.socket = FakeSocket()
        peer = IPv4Address("TCP", "127.0.0.1", 50000)
        self.protocol: Any = site.buildProtocol(peer)
        self.transport: Any = tcp.Server(
            cast(Any, self.socket),
            self.protocol,
            ("127.0.0.1", 50000),
            cast(Any, None),
            0,
            cast(Any, self.reactor),
        )
        self.prepare()
        self.protocol.makeConnection(self.transport)
        self.reset_response()

    def prepare(self) -> None:
        """
        Prepare the transport before the protocol gets it. A hook for subclasses.
        """

    def reset_response(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.raw = b""
        self._head_done = False

    @property
    def reset(self) -> bool:
        """
        Whether the server reset the stream.
        """
        return self.socket.reset

    @property
    def connected(self) -> bool:
        """
        Whether the connection is open.
        """
        return not self.socket.closed

    def request(
        self, path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Client:
        lines = [f"{method} {path} {self.version.decode()}", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.say("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return self

    def say(self, data: bytes) -> None:
        """
        Send bytes to the server.
        """
        self.socket.incoming += data
        while self.socket.incoming and self.transport.connected:
            self.transport.doRead()
        self.pump()

    def stop_reading(self) -> None:
        """
        Stop reading, as if the kernel's buffer were full.
        """
        self.socket.room = 0

    def read_some(self, size: int) -> None:
        """
        Read this many bytes and no more.
        """
        self.socket.room = size
        self.pump()

    def read_on(self) -> None:
        """
        Read everything again.
        """
        self.socket.room = None
        self.pump()

    def disconnect(self, *, clean: bool = True) -> None:
        """
        Close the connection, or lose it if not ``clean``.
        """
        reason = ConnectionDone() if clean else ConnectionLost()
        self.transport.connectionLost(Failure(reason))
        self.reactor.run_soon()

    def pump(self) -> None:
        """
        Run everything that can happen without time passing.
        """
        for _ in range(10_000):
            self.reactor.run_soon()
            if self.transport not in self.reactor.writers or self.socket.room == 0:
                break
            self.write_out()
        self.receive()

    def write_out(self) -> None:
        result = self.transport.doWrite()
        if result is not None:
            self.transport.connectionLost(Failure(result))

    def receive(self) -> None:
        data, self.socket.outgoing = self.socket.outgoing, b""
        self.raw += data
        if not self._head_done:
            head, found, rest = self.raw.partition(b"\r\n\r\n")
            if not found:
                return
            first, *fields = head.decode("latin-1").split("\r\n")
            self.status = int(first.split()[1])
            for field in fields:
                name, _, value = field.partition(": ")
                self.headers[name.lower()] = value
            self._head_done = True
            self.raw = rest
        self.read_body()

    def read_body(self) -> None:
        if self.headers.get("transfer-encoding") != "chunked":
            self.body += self.raw
            self.raw = b""
            length = self.headers.get("content-length")
            closed = not self.connected and not self.reset
            self.ended = closed or length is not None or self.status == 204
            return
        while not self.ended:
            size, found, rest = self.raw.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                return
            count = int(size, 16)
            assert rest[count : count + 2] == b"\r\n", "broken framing"
            self.body += rest[:count]
            self.raw = rest[count + 2 :]
            self.ended = not count


class Http10Client(Client):
    version = b"HTTP/1.0"


class Http2Client(Client):
    """
    One stream at a time on an HTTP/2 connection.
    """

    def prepare(self) -> None:
        if h2 is None:
            # conftest.py skips the test, and names the package to install.
            raise ModuleNotFoundError("No module named 'h2'", name="h2")
        self.transport.negotiatedProtocol = b"h2"
        self._read = True
        self._was_reset = False
        self.window = 2**16 - 1
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()

    def request(
        self, path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Client:
        self.stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "x")]
        fields = [(name.lower(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self.h2.send_headers(self.stream, [*pseudo, *fields], end_stream=True)
        self.say(self.h2.data_to_send())
        return self

    def open_window(self, size: int) -> None:
        """
        Allow the server to send this many bytes at once, as a client with a huge window does.
        """
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})
        if size > 2**16:
            self.h2.increment_flow_control_window(size - 2**16)
        self.say(self.h2.data_to_send())

    @property
    def reset(self) -> bool:
        return self._was_reset

    @property
    def connected(self) -> bool:
        return super().connected and not self._was_reset

    def disconnect(self, *, clean: bool = True) -> None:
        if clean:
            self.h2.reset_stream(self.stream)
            self.say(self.h2.data_to_send())
        else:
            super().disconnect(clean=False)

    def receive(self) -> None:
        data, self.socket.outgoing = self.socket.outgoing, b""
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                for name, value in event.headers or []:
                    key, text = _text(name), _text(value)
                    if key == ":status":
                        self.status = int(text)
                    else:
                        self.headers[key] = text
            elif isinstance(event, h2.events.DataReceived):
                self.body += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
            elif isinstance(event, h2.events.StreamReset):
                self._was_reset = True
        answer = self.h2.data_to_send()
        if answer and self.transport.connected:
            self.say(answer)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


class Wire:
    """
    One combination of HTTP version and sink by which a channel's bytes reach its client.

    :ivar kind: its name: ``direct``, ``detached``, ``request``, ``http10`` or ``http2``.
    """

    def __init__(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.reactor = FakeReactor()
        if h2 is None:
            if kind == "http2":
                pytest.skip("needs h2: pip install 'txsse[http2]'")
            return
        # Twisted gives HTTP/2 connections the global reactor, not the site's.
        monkeypatch.setattr(http, "H2Connection", functools.partial(http.H2Connection, reactor=self.reactor))  # type: ignore[attr-defined]

    def upgrader(self, **options: Any) -> Upgrader:
        """
        Make an upgrader whose channels use this wire.
        """
        options.setdefault("direct_writes", self.kind != "request")
        options.setdefault("keep_request", self.kind != "detached")
        options.setdefault("keepalive", None)
        return Upgrader(reactor=self.reactor, **options)

    def connect(
        self,
        resource: IResource,
        *,
        timeout: float | None = None,
        log: Callable[[Any], None] = lambda request: None,
    ) -> Client:
        """
        Connect a client to a site.

        :param log: writes the access log.
        """
        site = Site(resource, reactor=self.reactor, timeout=timeout)
        site.log = log  # type: ignore[assignment, method-assign]
        return self.connect_to(site)

    def connect_to(self, site: Site) -> Client:
        """
        Connect a client to a site that the test has made.
        """
        client: Callable[[Wire, Site], Client] = _CLIENTS.get(self.kind, Client)
        return client(self, site)


_CLIENTS: dict[str, Callable[[Wire, Site], Client]] = {
    "http10": Http10Client,
    "http2": Http2Client,
}

WIRES = ["direct", "detached", "request", "http10", "http2"]
