"""
TCP_USER_TIMEOUT: set while a stream is open, and restored.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost, TCPTimedOutError
from twisted.python.failure import Failure

from txsse.server import peer_timeout as peer
from txsse.server.peer_timeout import PeerTimeout, note_error

OPTION = getattr(socket, "TCP_USER_TIMEOUT", None)
pytestmark = pytest.mark.skipif(OPTION is None, reason="this system has no TCP_USER_TIMEOUT")


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


def request_over(found: object) -> Any:
    return SimpleNamespace(channel=SimpleNamespace(transport=SimpleNamespace(socket=found)))


def timeout_of(found: socket.socket) -> int:
    return found.getsockopt(socket.IPPROTO_TCP, OPTION or 0)


class PeerTimeoutTests:
    def test_stream(self, tcp: socket.socket) -> None:
        """
        It is set at the beginning, in milliseconds, and restored at the end.
        """
        tcp.setsockopt(socket.IPPROTO_TCP, OPTION or 0, 12345)
        peers = PeerTimeout(2.5)
        held = peers.hold(request_over(tcp))
        assert timeout_of(tcp) == 2500
        peers.release(held)
        assert timeout_of(tcp) == 12345

    def test_two_streams_on_one_socket(self, tcp: socket.socket) -> None:
        """
        It is restored at the end of the last.
        """
        peers = PeerTimeout(2.5)
        request = request_over(tcp)
        first, second = peers.hold(request), peers.hold(request)
        peers.release(first)
        assert timeout_of(tcp) == 2500
        peers.release(second)
        assert timeout_of(tcp) == 0

    def test_streams_of_two_upgraders(self, tcp: socket.socket) -> None:
        """
        The shorter time counts while both are open, and what was there before comes back at the end.
        """
        request = request_over(tcp)
        patient, impatient = PeerTimeout(60), PeerTimeout(20)
        first = patient.hold(request)
        second = impatient.hold(request)
        assert timeout_of(tcp) == 20_000
        impatient.release(second)
        assert timeout_of(tcp) == 60_000
        second = impatient.hold(request)
        patient.release(first)
        assert timeout_of(tcp) == 20_000
        impatient.release(second)
        assert timeout_of(tcp) == 0

    def test_shortest_of_those_that_are_left(self, tcp: socket.socket) -> None:
        """
        When the most impatient ends, the next one counts.
        """
        request = request_over(tcp)
        peers = [PeerTimeout(seconds) for seconds in (60, 20, 40)]
        held = [each.hold(request) for each in peers]
        peers[1].release(held[1])
        assert timeout_of(tcp) == 40_000

    def test_time_of_somebody_else_in_between(self, tcp: socket.socket) -> None:
        """
        It is what comes back after the next stream.
        """
        peers = PeerTimeout(2.5)
        peers.release(peers.hold(request_over(tcp)))
        tcp.setsockopt(socket.IPPROTO_TCP, OPTION or 0, 777)
        peers.release(peers.hold(request_over(tcp)))
        assert timeout_of(tcp) == 777

    def test_connection_that_closes_behind_the_stream(self, tcp: socket.socket) -> None:
        """
        It keeps the time, for what it still has to send.
        """
        peers = PeerTimeout(2.5)
        peers.release(peers.hold(request_over(tcp)), reused=False)
        assert timeout_of(tcp) == 2500

    def test_below_tls_and_http2(self, tcp: socket.socket) -> None:
        """
        The socket is found below what wraps it.
        """
        tls = SimpleNamespace(transport=SimpleNamespace(socket=tcp))
        request: Any = SimpleNamespace(channel=SimpleNamespace(_conn=SimpleNamespace(transport=tls)))
        assert PeerTimeout(1.0).hold(request) is tcp

    @pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
    def test_ipv6(self) -> None:
        """
        It is TCP as well.
        """
        with socket.socket(socket.AF_INET6) as tcp6:
            PeerTimeout(1.0).hold(request_over(tcp6))
            assert timeout_of(tcp6) == 1000

    def test_socket_that_was_closed(self, tcp: socket.socket) -> None:
        """
        Nothing is restored, and nothing fails.
        """
        peers = PeerTimeout(1.0)
        held = peers.hold(request_over(tcp))
        tcp.close()
        peers.release(held)

    def test_less_than_a_millisecond(self, tcp: socket.socket) -> None:
        """
        It is one, since 0 would turn the option off.
        """
        PeerTimeout(0.0001).hold(request_over(tcp))
        assert timeout_of(tcp) == 1

    @pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH])
    def test_peer_that_is_given_up(self, tcp: socket.socket, number: int) -> None:
        """
        The loss of the connection is explained, where the kernel has said so.
        """
        peers = PeerTimeout(2.5)
        peers.hold(request_over(tcp))
        lost = Failure(ConnectionLost())
        assert peers.explain(lost, tcp) is lost
        note_error(tcp, OSError(number, "given up"))
        assert peers.explain(lost, tcp).check(TCPTimedOutError)

    @pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.EAGAIN])
    def test_peer_that_has_gone(self, tcp: socket.socket, number: int) -> None:
        """
        Other errors stay what they are, and so do those of sockets that nobody knows.
        """
        peers = PeerTimeout(2.5)
        peers.hold(request_over(tcp))
        note_error(tcp, OSError(number, "gone"))
        lost = Failure(ConnectionLost())
        assert peers.explain(lost, tcp) is lost
        assert peers.explain(lost, None) is lost

    def test_error_that_is_read(self, tcp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Reading tells it, as ever, and it is noted; the next stream of the socket changes nothing.
        """
        peers = PeerTimeout(2.5)
        for _ in range(2):
            peers.hold(request_over(tcp))
        tcp.setblocking(False)
        with pytest.raises(OSError) as raised:
            tcp.recv(1)
        lost = Failure(ConnectionLost())
        assert peers.explain(lost, tcp) is lost
        monkeypatch.setattr(peer, "_GIVEN_UP", {raised.value.errno})
        with pytest.raises(OSError):
            tcp.recv(1)
        assert peers.explain(lost, tcp) is not lost

    def test_error_that_nobody_has_read(self, tcp: socket.socket) -> None:
        """
        It is looked for when the socket is closed.
        """
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            address = listening.getsockname()
        peers = PeerTimeout(2.5)
        peers.hold(request_over(tcp))
        tcp.setblocking(False)
        # Nobody listens there any more: the kernel has ECONNREFUSED for the next who asks.
        tcp.connect_ex(address)
        select.select([], [tcp], [], 10)
        tcp.close()
        tcp.close()
        assert peers.explain(Failure(ConnectionLost()), tcp).check(TCPTimedOutError)

    def test_nothing_asked_for(self, tcp: socket.socket) -> None:
        """
        Nothing is touched.
        """
        peers = PeerTimeout(None)
        assert peers.hold(request_over(tcp)) is None
        assert timeout_of(tcp) == 0
        peers.release(None)

    def test_system_without_the_option(self, tcp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Nothing is touched.
        """
        monkeypatch.setattr(peer, "_OPTION", None)
        assert PeerTimeout(1.0).hold(request_over(tcp)) is None

    @pytest.mark.parametrize("found", [None, "no socket"])
    def test_transport_without_a_socket(self, found: object) -> None:
        """
        Nothing is touched.
        """
        assert PeerTimeout(1.0).hold(request_over(found)) is None

    def test_transport_without_attributes(self) -> None:
        """
        A transport of another kind is left alone.
        """
        request: Any = SimpleNamespace(channel=SimpleNamespace(transport=object()))
        assert PeerTimeout(1.0).hold(request) is None

    def test_unix_socket(self) -> None:
        """
        It has no such option.
        """
        with socket.socket(socket.AF_UNIX) as unix:
            assert PeerTimeout(1.0).hold(request_over(unix)) is None
