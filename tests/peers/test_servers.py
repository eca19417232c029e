"""
Our client against servers in other languages and frameworks: better-sse on Node and sse-starlette.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.browser.test_event_source import TEXTS, line_ends_as_lf
from tests.peers.foreign import SENT, ForeignServer
from tests.waiting import until
from txsse import EventSource, ReadyState, ServerSentEvent, StreamEnded, StreamRefused


class TextTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("each", [4, len(TEXTS) + 1])
    async def test_followed_to_the_end(self, foreign: ForeignServer, each: int) -> None:
        """
        ``EventSource`` receives every event once and in order from a foreign server, however often the server
        ends the stream, until its 204.
        """
        got: list[ServerSentEvent] = []
        errors: list[Exception] = []
        source = EventSource(
            f"{foreign.origin}/texts?each={each}",
            max_retry=0.05,
            event_received=got.append,
            on_error=errors.append,
        )
        source.start()
        await until(lambda: source.ready_state is ReadyState.CLOSED)
        end = source.last_error
        assert isinstance(end, StreamRefused) and end.status == 204
        assert errors.pop() is end
        assert len(errors) == -(-len(SENT) // each)
        assert all(isinstance(error, StreamEnded) for error in errors)
        assert [(event.id, event.event) for event in got] == [(id, type) for id, type, _ in SENT]
        for event, (id, _, text) in zip(got, SENT, strict=True):
            # Without pytest's comparison of the operands, which takes very long for two megabytes.
            same = line_ends_as_lf(foreign.to_text(event.data)) == line_ends_as_lf(text)
            assert same, f"{id} became {event.data[:100]!r}"
        assert source.last_event_id == SENT[-1][0]

    @pytest_twisted.ensureDeferred
    async def test_slow_program(self, foreign: ForeignServer) -> None:
        """
        An ``event_received`` that returns a Deferred gets one event at a time, and finally all events of a
        foreign server.
        """
        got: list[str | None] = []
        at_work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            got.append(event.id)
            at_work.append(Deferred())
            return at_work[-1]

        source = EventSource(f"{foreign.origin}/texts?each=10", max_retry=0.05, event_received=received)
        source.start()
        for id, _, _ in SENT:
            await until(lambda: at_work)
            assert got[-1] == source.last_event_id == id
            assert len(at_work) == 1
            at_work.pop().callback(None)
        await until(lambda: source.ready_state is ReadyState.CLOSED)
        assert got == [id for id, _, _ in SENT]


class KindTests:
    @pytest_twisted.ensureDeferred
    async def test_kinds(self, foreign: ForeignServer) -> None:
        """
        ``EventSource`` handles a foreign server's comments, blocks without data, empty data, several lines,
        an id that is reset, and retry.
        """
        got: list[ServerSentEvent] = []
        source = EventSource(f"{foreign.origin}/kinds", event_received=got.append)
        states, retries = [source.ready_state], [source.retry]
        source.start()
        await until(lambda: got and got[-1].data == "the last")
        states.append(source.ready_state)
        retries.append(source.retry)
        assert [(event.event, event.data, event.id) for event in got] == [
            ("message", "neither id nor type", ""),
            ("größe", "one\n\ntwo", "7"),
            ("message", "", "№ 8 · 古池 🐸"),
            ("message", "no id any more", ""),
            ("message", "the last", "9"),
        ]
        assert source.last_event_id == "9"
        source.close()
        states.append(source.ready_state)
        assert states == [ReadyState.CONNECTING, ReadyState.OPEN, ReadyState.CLOSED]
        assert retries == [3.0, 0.02]
        await until(lambda: foreign.open_streams == 0)

    @pytest_twisted.ensureDeferred
    async def test_keep_alives(self, foreign: ForeignServer) -> None:
        """
        A foreign stream with only keep-alive comments stays open, and the comments are not shown.
        """
        got: list[ServerSentEvent] = []
        errors: list[Exception] = []
        source = EventSource(
            f"{foreign.origin}/keep-alives", event_received=got.append, on_error=errors.append
        )
        source.start()
        await until(lambda: len(got) == 2)
        assert [(event.data, event.id) for event in got] == [("before", "1"), ("after", "2")]
        assert not errors
        source.close()
        await until(lambda: foreign.open_streams == 0)


async def echo(source: EventSource) -> Any:
    """
    Return the request as the server received it.
    """
    got: list[ServerSentEvent] = []
    source.add_listener("message", got.append)
    source.start()
    await until(lambda: got)
    source.close()
    return json.loads(got[0].data)


class RequestTests:
    @pytest_twisted.ensureDeferred
    async def test_get(self, foreign: ForeignServer) -> None:
        """
        ``EventSource`` sends a GET with the headers that the standard requires, and accepts no content
        coding.
        """
        seen = await echo(EventSource(f"{foreign.origin}/echo", last_event_id="№ 7"))
        assert (seen["method"], seen["body"]) == ("GET", "")
        fields = seen["headers"]
        assert (fields["accept"], fields["cache-control"]) == ("text/event-stream", "no-cache")
        assert fields["last-event-id"].encode("latin-1").decode() == "№ 7"
        assert "accept-encoding" not in fields
        await until(lambda: foreign.open_streams == 0)

    @pytest_twisted.ensureDeferred
    async def test_post(self, foreign: ForeignServer) -> None:
        """
        A foreign server receives the program's own method, body and header fields from ``EventSource``.
        """
        question = {"question": "Größe?"}
        fields = {"Content-Type": "application/json", "Authorization": "Bearer x"}
        body = json.dumps(question).encode()
        seen = await echo(EventSource(f"{foreign.origin}/echo", method="POST", body=body, headers=fields))
        assert (seen["method"], json.loads(seen["body"])) == ("POST", question)
        assert {name: seen["headers"][name.lower()] for name in fields} == fields
        await until(lambda: foreign.open_streams == 0)
