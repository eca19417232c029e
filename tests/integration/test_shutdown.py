"""
A program with only a site and ``reactor.run()``, which a signal stops.
"""

from __future__ import annotations

import signal
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.processes import python, start
from tests.waiting import PATIENCE

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent.parent


PROGRAM = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site
from txsse import SSEResource

async def coroutine(channel):
    try:
        await Deferred()
    finally:
        await deferLater(reactor, 0.1)
        channel.send("bye")

async def generator(channel):
    try:
        await Deferred()
        yield "never"
    finally:
        await deferLater(reactor, 0.1)
        channel.send("bye")

def deferred(channel):
    def bye(result):
        return deferLater(reactor, 0.1, channel.send, "bye").addCallback(lambda _: result)
    return Deferred().addBoth(bye)

def sending(channel):
    channel.send_from(generator(channel))

def opened(handler):
    def serve(channel):
        channel.comment("open")
        channel.when_closed().addCallback(lambda reason: print(reason.name, flush=True))
        return handler(channel)
    return serve

root = Resource()
for handler in (coroutine, generator, deferred, sending):
    root.putChild(handler.__name__.encode(), SSEResource(opened(handler)))
if len(sys.argv) == 1:
    port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
else:
    from twisted.internet import ssl
    pem = open(sys.argv[1], "rb").read()
    certificate = ssl.PrivateCertificate.loadPEM(pem)
    port = reactor.listenSSL(0, Site(root), certificate.options(), interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
"""

PATHS = ["coroutine", "generator", "deferred", "sending"]


def read_until(stream: socket.socket, text: bytes) -> bytes:
    """
    Read until a text has arrived, or to the end of the stream.
    """
    received = b""
    while text not in received and (data := stream.recv(4096)):
        received += data
    return received


class SignalTests:
    @pytest.mark.parametrize("over_tls", [False, True])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_handlers_send_last_events(
        self, number: signal.Signals, over_tls: bool, request: pytest.FixtureRequest
    ) -> None:
        """
        On SIGTERM and SIGINT, handlers of all kinds are cancelled before the connections are closed, and the
        events that they send then arrive.
        """
        arguments = [str(request.getfixturevalue("certificate"))] if over_tls else []
        with start(python("-c", PROGRAM, *arguments)) as program, ExitStack() as left:
            [port] = program.wait_for(r"^(\d+)$")
            streams: list[socket.socket] = []
            for path in PATHS:
                stream = left.enter_context(self.connect(int(port), over_tls=over_tls))
                stream.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                read_until(stream, b": open")
                streams.append(stream)
            program.process.send_signal(number)
            ends = [read_until(stream, b"0\r\n\r\n") for stream in streams]
            program.wait()
        for path, end in zip(PATHS, ends, strict=True):
            assert b"data: bye\n\n" in end, path
            assert end.endswith(b"0\r\n\r\n"), path
            assert program.out.split() == [port, *["SHUTDOWN"] * len(PATHS)]
            assert program.err == ""

    def connect(self, port: int, *, over_tls: bool) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        if not over_tls:
            return connection
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection)
