"""
Tests of the access to Twisted's HTTP/2 streams, with Twisted as expected and with private names missing.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from txsse._twisted import http2
from txsse._twisted.http2 import head_of, reset, stream_of, was_reset


class Request:
    """
    A request whose stream is as expected; the tests remove parts of it.
    """

    clientproto = b"HTTP/2"

    def __init__(self) -> None:
        self.lost: list[Any] = []
        conn = SimpleNamespace(
            streams={1: SimpleNamespace(closed=False)},
            local_flow_control_window=lambda _: 5,
            outbound_flow_control_window=7,
        )
        self.connection = Connection(
            conn=conn, _consumerBlocked=None, _outboundStreamQueues={}, _reactor=Clock()
        )
        self.channel: Any = SimpleNamespace(
            streamID=1, flowControlBlocked=None, _conn=self.connection, command=b"GET", path=b"/"
        )

    def connectionLost(self, reason: Any) -> None:
        self.lost.append(reason)


class Connection(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]


class StreamTests:
    def test_as_expected(self) -> None:
        """
        An HTTP/2 stream reports its windows, its empty queue, and its head.
        """
        request: Any = Request()
        stream = stream_of(request)
        assert stream is not None
        assert (stream.window, stream.shared_window, stream.has_queued) == (5, 7, False)
        assert not was_reset(request)
        assert head_of(request.channel) == (b"GET", b"/", b"HTTP/2")

    def test_reset(self) -> None:
        """
        A stream that h2 has closed has no window and counts as reset.
        """
        request: Any = Request()
        stream = stream_of(request)
        assert stream is not None

        def refuse(_: int) -> int:
            raise http2.ProtocolError  # type: ignore[attr-defined]

        request.connection.conn.local_flow_control_window = refuse
        request.connection.conn.streams[1].closed = True
        assert stream.window == 0
        assert stream.is_reset
        assert was_reset(request)
        # h2 forgets it when the next one opens.
        del request.connection.conn.streams[1]
        assert was_reset(request)

    @pytest.mark.parametrize("name", ["streamID", "flowControlBlocked", "_conn"])
    def test_stream_without(self, name: str) -> None:
        """
        A stream that lacks a private name is not used, and does not count as reset.
        """
        request: Any = Request()
        delattr(request.channel, name)
        assert stream_of(request) is None
        assert not was_reset(request)

    @pytest.mark.parametrize("name", ["conn", "_consumerBlocked", "_outboundStreamQueues", "_reactor"])
    def test_connection_without(self, name: str) -> None:
        """
        A stream whose connection lacks a private name is not used, and does not count as reset.
        """
        request: Any = Request()
        delattr(request.connection, name)
        assert stream_of(request) is None
        assert not was_reset(request)

    @pytest.mark.parametrize("name", ["command", "path"])
    def test_head_without(self, name: str) -> None:
        """
        The head of an HTTP/2 request is unknown if one of its private names is missing.
        """
        request: Any = Request()
        delattr(request.channel, name)
        assert head_of(request.channel) is None


class ResetTests:
    @pytest.mark.parametrize("known", [True, False])
    def test_reset_on_a_closed_connection(self, known: bool) -> None:
        """
        Resetting a stream of a closed connection aborts its transport, if that is found, and notifies the
        request.
        """
        request: Any = Request()
        aborted: list[int] = []

        def refuse() -> None:
            raise http2.ProtocolError  # type: ignore[attr-defined]

        request.channel.abortConnection = refuse
        request.connection.transport = SimpleNamespace(abortConnection=lambda: aborted.append(1))
        if not known:
            del request.channel._conn
        reset(request)
        assert len(aborted) == known
        assert len(request.lost) == 1


class WithoutH2Tests:
    def test_import(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without h2, the module for HTTP/2 can still be imported.
        """
        monkeypatch.setitem(sys.modules, "h2.exceptions", None)
        spec = importlib.util.spec_from_file_location("without_h2", http2.__file__)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert issubclass(module.ProtocolError, Exception)
