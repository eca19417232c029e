"""
Tests of TCP_USER_TIMEOUT, which is set while a stream is open, and restored afterwards.
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
        The peer time-out is set in milliseconds when a stream begins, and restored when it ends.
        """
        tcp.setsockopt(socket.IPPROTO_TCP, OPTION or 0, 12345)
        peers = PeerTimeout(2.5)
        held = peers.hold(request_over(tcp))
        assert timeout_of(tcp) == 2500
        peers.release(held)
        assert timeout_of(tcp) == 12345

    def test_two_streams_on_one_socket(self, tcp: socket.socket) -> None:
        """
        The peer time-out of a socket with two streams is restored when the last one ends.
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
        With two streams of different time-outs on a socket, the shorter one applies, and the original is
        restored.
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

    def test_shortest_of_the_remaining_streams(self, tcp: socket.socket) -> None:
        """
        When the stream with the shortest time-out ends, the next shorter one applies.
        """
        request = request_over(tcp)
        peers = [PeerTimeout(seconds) for seconds in (60, 20, 40)]
        held = [each.hold(request) for each in peers]
        peers[1].release(held[1])
        assert timeout_of(tcp) == 40_000

    def test_value_changed_between_two_streams(self, tcp: socket.socket) -> None:
        """
        A value that other code sets between two streams is restored after the second one.
        """
        peers = PeerTimeout(2.5)
        peers.release(peers.hold(request_over(tcp)))
        tcp.setsockopt(socket.IPPROTO_TCP, OPTION or 0, 777)
        peers.release(peers.hold(request_over(tcp)))
        assert timeout_of(tcp) == 777

    def test_connection_that_closes_after_the_stream(self, tcp: socket.socket) -> None:
        """
        A connection that closes after its stream keeps the peer time-out for its unsent data.
        """
        peers = PeerTimeout(2.5)
        peers.release(peers.hold(request_over(tcp)), reused=False)
        assert timeout_of(tcp) == 2500

    def test_below_tls_and_http2(self, tcp: socket.socket) -> None:
        """
        The socket of a request is found below TLS and HTTP/2.
        """
        tls = SimpleNamespace(transport=SimpleNamespace(socket=tcp))
        request: Any = SimpleNamespace(channel=SimpleNamespace(_conn=SimpleNamespace(transport=tls)))
        assert PeerTimeout(1.0).hold(request) is tcp

    @pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
    def test_ipv6(self) -> None:
        """
        The peer time-out is set on IPv6 sockets.
        """
        with socket.socket(socket.AF_INET6) as tcp6:
            PeerTimeout(1.0).hold(request_over(tcp6))
            assert timeout_of(tcp6) == 1000

    def test_socket_that_was_closed(self, tcp: socket.socket) -> None:
        """
        The end of a stream whose socket was closed restores nothing, and does not fail.
        """
        peers = PeerTimeout(1.0)
        held = peers.hold(request_over(tcp))
        tcp.close()
        peers.release(held)

    def test_less_than_a_millisecond(self, tcp: socket.socket) -> None:
        """
        A peer time-out below a millisecond is rounded up to 1, since 0 would turn the option off.
        """
        PeerTimeout(0.0001).hold(request_over(tcp))
        assert timeout_of(tcp) == 1

    @pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH])
    def test_peer_that_is_given_up(self, tcp: socket.socket, number: int) -> None:
        """
        A lost connection is reported as TCPTimedOutError if the kernel has given the peer up.
        """
        peers = PeerTimeout(2.5)
        peers.hold(request_over(tcp))
        lost = Failure(ConnectionLost())
        assert peers.explain(lost, tcp) is lost
        note_error(tcp, OSError(number, "given up"))
        assert peers.explain(lost, tcp).check(TCPTimedOutError)

    @pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.EAGAIN])
    def test_errors_other_than_a_time_out(self, tcp: socket.socket, number: int) -> None:
        """
        Other socket errors, and lost connections of unknown sockets, are reported unchanged.
        """
        peers = PeerTimeout(2.5)
        peers.hold(request_over(tcp))
        note_error(tcp, OSError(number, "gone"))
        lost = Failure(ConnectionLost())
        assert peers.explain(lost, tcp) is lost
        assert peers.explain(lost, None) is lost

    def test_error_that_is_read(self, tcp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An error that is read from a socket is raised and recorded; the next stream of the socket does the
        same.
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

    def test_error_that_was_not_read(self, tcp: socket.socket) -> None:
        """
        A socket error that was not read is recorded when the socket is closed.
        """
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            address = listening.getsockname()
        peers = PeerTimeout(2.5)
        peers.hold(request_over(tcp))
        tcp.setblocking(False)
        # The port is closed again, so the kernel reports ECONNREFUSED for this socket.
        tcp.connect_ex(address)
        select.select([], [tcp], [], 10)
        tcp.close()
        tcp.close()
        assert peers.explain(Failure(ConnectionLost()), tcp).check(TCPTimedOutError)

    def test_no_peer_timeout(self, tcp: socket.socket) -> None:
        """
        Without a peer time-out, the socket is not changed.
        """
        peers = PeerTimeout(None)
        assert peers.hold(request_over(tcp)) is None
        assert timeout_of(tcp) == 0
        peers.release(None)

    def test_system_without_the_option(self, tcp: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        On a system without TCP_USER_TIMEOUT, the socket is not changed.
        """
        monkeypatch.setattr(peer, "_OPTION", None)
        assert PeerTimeout(1.0).hold(request_over(tcp)) is None

    @pytest.mark.parametrize("found", [None, "no socket"])
    def test_transport_without_a_socket(self, found: object) -> None:
        """
        A transport without a socket is not changed.
        """
        assert PeerTimeout(1.0).hold(request_over(found)) is None

    def test_transport_without_attributes(self) -> None:
        """
        A transport of an unknown class is not changed.
        """
        request: Any = SimpleNamespace(channel=SimpleNamespace(transport=object()))
        assert PeerTimeout(1.0).hold(request) is None

    def test_unix_socket(self) -> None:
        """
        A UNIX socket is not changed: it has no such option.
        """
        with socket.socket(socket.AF_UNIX) as unix:
            assert PeerTimeout(1.0).hold(request_over(unix)) is None
