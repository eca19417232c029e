"""
The scripted server, in memory and over sockets.
"""

from __future__ import annotations

from itertools import repeat

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from tests.integration.clients import listen
from tests.waiting import until
from txsse import EventSource, ReadyState, ServerSentEvent, StreamEnded, StreamRefused
from txsse.testing import CUT, HOLD, MemoryPair, Reply, ScriptedResource


class ScriptTests:
    def test_in_order(self) -> None:
        """
        Each request gets the next reply of the script; after the last one, 204 stops the client permanently.
        """
        clock = Clock()
        script = ScriptedResource(
            [["data: a\n\n"], Reply(status=503, headers={"Retry-After": "7"}), [b"data: b\n\n"]],
            reactor=clock,
        )
        pair = MemoryPair(script, clock=clock, retry=1.0, reconnect_on=[503])
        pair.advance(1)
        pair.advance(6.9)
        assert len(script.visits) == 2
        pair.advance(0.2)
        assert len(script.visits) == 3
        pair.advance(60)
        assert [event.data for event in pair.events] == ["a", "b"]
        assert isinstance(pair.source.last_error, StreamRefused)
        assert pair.source.last_error.status == 204
        assert pair.source.ready_state is ReadyState.CLOSED
        assert len(script.visits) == 4
        assert not clock.getDelayedCalls()

    def test_waits(self) -> None:
        """
        A number in a script waits for that many seconds between two writes.
        """
        clock = Clock()
        script = ScriptedResource([[2.5, "data: a\n\n", 1, "data: b\n\n", HOLD]], reactor=clock)
        pair = MemoryPair(script, clock=clock)
        assert pair.source.ready_state is ReadyState.OPEN
        counts = []
        for _ in range(4):
            pair.advance(1)
            counts.append(len(pair.events))
        assert counts == [0, 0, 1, 2]

    def test_hold(self) -> None:
        """
        ``HOLD`` leaves a stream open until the client disconnects.
        """
        clock = Clock()
        script = ScriptedResource([[HOLD]], reactor=clock)
        pair = MemoryPair(script, clock=clock)
        pair.advance(10_000)
        assert pair.source.ready_state is ReadyState.OPEN
        assert script.open == 1
        pair.source.close()
        pair.advance()
        assert script.open == 0

    def test_cut(self) -> None:
        """
        ``CUT`` breaks the connection off: the client gets the data written before, and an error instead of an
        end.
        """
        clock = Clock()
        script = ScriptedResource([["data: a\n\ndata: b", CUT, "data: never\n\n"]], reactor=clock)
        pair = MemoryPair(script, clock=clock)
        assert [event.data for event in pair.events] == ["a"]
        assert [type(error.__cause__) for error in pair.errors] == [ConnectionDone]
        assert script.open == 0

    def test_end(self) -> None:
        """
        A reply without ``CUT`` or ``HOLD`` ends properly, immediately if it has no steps.
        """
        clock = Clock()
        script = ScriptedResource([[]], reactor=clock)
        pair = MemoryPair(script, clock=clock)
        assert [type(error) for error in pair.errors] == [StreamEnded]

    def test_event(self) -> None:
        """
        A script may contain events, which are encoded.
        """
        clock = Clock()
        event = ServerSentEvent("ä\nb", event="x", id="1")
        pair = MemoryPair(ScriptedResource([[event, HOLD]], reactor=clock), clock=clock)
        assert pair.events == [event]

    def test_wrong_length(self) -> None:
        """
        A scripted ``Content-Length`` is sent even if it is wrong.
        """
        clock = Clock()
        reply = Reply(["data: a\n\n", CUT], headers={"Content-Length": "1000"})
        pair = MemoryPair(ScriptedResource([reply], reactor=clock), clock=clock)
        assert [event.data for event in pair.events] == ["a"]
        assert len(pair.errors) == 1

    def test_client_disconnects_during_reply(self) -> None:
        """
        When the client disconnects, the rest of the reply is not sent.
        """
        clock = Clock()
        script = ScriptedResource([["data: a\n\n", 5, "data: b\n\n"]], reactor=clock)
        pair = MemoryPair(script, clock=clock)
        pair.source.close()
        pair.advance()
        assert not clock.getDelayedCalls()

    def test_infinite_reply(self) -> None:
        """
        An infinite reply waits for a client that is slow.
        """
        clock = Clock()
        played = []

        def endless() -> object:
            for number in repeat("data: " + "x" * 1000 + "\n\n"):
                played.append(number)
                yield number

        pair = MemoryPair(
            ScriptedResource([Reply(endless())], reactor=clock),  # type: ignore[arg-type]
            clock=clock,
            event_received=lambda event: Deferred(),
        )
        pair.advance(100)
        assert 64 <= len(played) < 1000

    def test_hold_with_slow_client(self) -> None:
        """
        A slow client gets everything written before ``HOLD``, and the stream stays open after that.
        """
        clock = Clock()
        work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            work.append(Deferred())
            return work[-1]

        script = ScriptedResource([[*["data: " + "x" * 50_000 + "\n\n"] * 10, HOLD]], reactor=clock)
        pair = MemoryPair(script, clock=clock, event_received=received)
        for count in range(1, 11):
            assert len(work) == count
            work[-1].callback(None)
            pair.advance()
        assert pair.source.ready_state is ReadyState.OPEN
        assert script.open == 1

    def test_visits(self) -> None:
        """
        ``visits`` records the method, path, headers, body and last event ID of each request.
        """
        clock = Clock()
        script = ScriptedResource([], reactor=clock)
        MemoryPair(
            script,
            "http://localhost/a?b=c",
            clock=clock,
            method="POST",
            body=b"question",
            headers={"X-Y": "z"},
            last_event_id="ä",
        )
        visit = script.visits[0]
        assert (visit.method, visit.path, visit.body) == ("POST", "/a?b=c", b"question")
        assert (visit.headers["x-y"], visit.last_event_id) == ("z", "ä")

    def test_visit_without_last_event_id(self) -> None:
        """
        The last event ID of a request without ``Last-Event-ID`` is ``None``.
        """
        clock = Clock()
        script = ScriptedResource([], reactor=clock)
        MemoryPair(script, clock=clock)
        assert script.visits[0].last_event_id is None


class RealReactorTests:
    @pytest_twisted.ensureDeferred
    async def test_played(self) -> None:
        """
        Over sockets with the global reactor, a scripted server plays its replies to a client that resumes.
        """
        script = ScriptedResource([["id: 1\ndata: a\n\n", 0.001, "data: half", CUT], ["data: b\n\n", HOLD]])
        port = await listen(script)
        got: list[str] = []
        source = EventSource(
            f"http://127.0.0.1:{port.getHost().port}/",
            retry=0.001,
            event_received=lambda event: got.append(event.data),
        )
        source.start()
        await until(lambda: len(got) == 2)
        assert got == ["a", "b"]
        assert [visit.last_event_id for visit in script.visits] == [None, "1"]
        source.close()
        await until(lambda: not script.open)
        await port.stopListening()
