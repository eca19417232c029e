"""
Tests of ``send_from`` with every kind of source, at the pace of the client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.fakes import Wire
from tests.server.test_channel import Opened
from txsse import ServerSentEvent


class Sent:
    """
    The result of a ``send_from``.
    """

    def __init__(self, sending: Deferred[int]) -> None:
        self.sending = sending
        self.results: list[Any] = []
        sending.addBoth(self.results.append)

    @property
    def error(self) -> type[BaseException]:
        (failure,) = self.results
        assert isinstance(failure, Failure)
        assert failure.type is not None
        return failure.type


class SourceTests:
    def test_iterables(self, wire: Wire) -> None:
        """
        send_from sends lists, generators and other iterables to their end, in order.
        """
        opened = Opened(wire)
        source: Any
        for source in (["1", b"2"], (text for text in ("3", "4")), iter([ServerSentEvent("5")]), ()):
            sent = Sent(opened.channel.send_from(source))
            wire.reactor.run_soon()
            assert len(sent.results) == 1
        assert opened.texts() == ["1", "2", "3", "4", "5"]
        opened.end()

    def test_number_of_events(self, plain: Wire) -> None:
        """
        The Deferred of send_from fires with the number of events.
        """
        opened = Opened(plain)
        sent = Sent(opened.channel.send_from(str(number) for number in range(1000)))
        plain.reactor.run_soon()
        assert sent.results == [1000]
        assert opened.texts() == [str(number) for number in range(1000)]
        opened.end()

    def test_asynchronous_generator(self, wire: Wire) -> None:
        """
        send_from sends each event of an asynchronous generator when it is yielded.
        """
        opened = Opened(wire)

        async def source() -> AsyncIterator[str]:
            for number in range(3):
                yield str(number)
                await deferLater(wire.reactor, 1.0)

        sent = Sent(opened.channel.send_from(source()))
        assert opened.texts() == ["0"]
        wire.reactor.advance(1.0)
        assert opened.texts() == ["0", "1"]
        wire.reactor.advance(1.0)
        wire.reactor.advance(1.0)
        assert sent.results == [3]
        opened.end()

    def test_asynchronous_iterable_that_is_no_generator(self, plain: Wire) -> None:
        """
        send_from accepts an asynchronous iterator without a method to close it.
        """
        opened = Opened(plain)

        class Countdown:
            def __init__(self) -> None:
                self.left = 3

            def __aiter__(self) -> Countdown:
                return self

            async def __anext__(self) -> str:
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                return str(self.left)

        sent = Sent(opened.channel.send_from(Countdown()))
        assert sent.results == [3]
        assert opened.texts() == ["2", "1", "0"]
        opened.end()

    @pytest.mark.parametrize("name", ["aclose", "close"])
    @pytest.mark.parametrize("end", ["close", "leave", "cancel", "stop", "fail"])
    def test_source_that_can_be_closed(self, plain: Wire, name: str, end: str) -> None:
        """
        send_from closes an asynchronous iterator that has aclose or close, whatever ends the sending.
        """
        opened = Opened(plain)
        closed: list[str] = []
        wanted: list[Deferred[str]] = []

        class Source:
            def __aiter__(self) -> Source:
                return self

            async def __anext__(self) -> str:
                wanted.append(Deferred())
                return await wanted[-1]

        async def aclose(_: object) -> None:
            closed.append("aclose")

        setattr(Source, name, aclose if name == "aclose" else lambda _: closed.append("close"))
        sent = Sent(opened.channel.send_from(Source()))
        wanted[0].callback("x")
        if end == "close":
            opened.channel.close()
        elif end == "leave":
            opened.client.disconnect()
        elif end == "cancel":
            sent.sending.cancel()
        else:
            wanted[-1].errback(StopAsyncIteration() if end == "stop" else LookupError())
        plain.reactor.run_soon()
        assert closed == [name]
        assert len(sent.results) == 1
        opened.end()

    def test_deferreds_and_awaitables(self, plain: Wire) -> None:
        """
        send_from sends the result of a Deferred or another awaitable.
        """
        opened = Opened(plain)

        async def coroutine() -> bytes:
            return b"coroutine"

        class Future:
            def __await__(self) -> Any:
                return succeed("future").__await__()

        later: Deferred[str] = Deferred()
        for source in (succeed("fired"), later, coroutine(), Future()):
            opened.channel.send_from(source)
        assert opened.texts() == ["fired", "coroutine", "future"]
        later.callback("later")
        assert opened.texts()[-1] == "later"
        opened.end()

    @pytest.mark.parametrize("source", ["text", b"bytes", ServerSentEvent("x"), 1, None, object()])
    def test_argument_that_is_not_a_source(self, plain: Wire, source: Any) -> None:
        """
        send_from raises TypeError at once for an argument that is not a source.
        """
        opened = Opened(plain)
        with pytest.raises(TypeError, match="send_from takes"):
            opened.channel.send_from(source)
        opened.end()

    @pytest.mark.parametrize("item", [None, 1, {"a": 1}, ["x"]])
    def test_items_of_other_types(self, plain: Wire, item: Any) -> None:
        """
        send_from fails with the allowed types if a source yields another type; the channel stays open.
        """
        opened = Opened(plain)
        sent = Sent(opened.channel.send_from(["first", item, "never"]))
        assert sent.error is TypeError
        assert f"not {type(item).__name__}; for JSON, yield" in str(sent.results[0].value)
        assert opened.texts() == ["first"]
        assert opened.channel.is_open
        opened.end()

    def test_source_that_fails(self, wire: Wire) -> None:
        """
        send_from fails with the exception of its source; the channel stays open.
        """
        opened = Opened(wire)

        def source() -> Iterator[str]:
            yield "first"
            raise ZeroDivisionError

        sent = Sent(opened.channel.send_from(source()))
        assert sent.error is ZeroDivisionError
        assert opened.channel.is_open
        opened.end()


class PaceTests:
    def test_slow_client(self, wire: Wire) -> None:
        """
        send_from requests no item from its source until a slow client has caught up.
        """
        opened = Opened(wire)
        asked = 0

        def source() -> Iterator[str]:
            nonlocal asked
            while True:
                asked += 1
                yield "x" * 1000

        opened.client.stop_reading()
        sent = Sent(opened.channel.send_from(source()))
        wire.reactor.run_soon()
        assert 60 <= asked <= 80
        assert opened.channel.buffered <= 1010
        stopped_at = asked
        wire.reactor.advance(10)
        assert asked == stopped_at
        opened.client.read_some(70_000)
        wire.reactor.advance(0)
        assert asked > stopped_at
        opened.client.disconnect(clean=False)
        assert sent.results == [asked] or sent.results == [asked - 1]

    def test_endless_source(self, plain: Wire) -> None:
        """
        An endless source is interrupted after each slice, so that the reactor continues.
        """
        opened = Opened(plain)
        turns: list[int] = []
        asked = 0

        def source() -> Iterator[str]:
            nonlocal asked
            while len(turns) < 3:
                asked += 1
                yield "x"

        def turn() -> None:
            turns.append(asked)
            opened.client.write_out()
            if len(turns) < 3:
                plain.reactor.callLater(0, turn)

        plain.reactor.callLater(0, turn)
        sent = Sent(opened.channel.send_from(source()))
        plain.reactor.run_soon()
        assert turns == [128, 256, 384]
        assert sent.results == [asked]
        opened.end()

    @pytest.mark.parametrize(("seconds", "expected"), [(0.004, [3, 6, 9]), (0.006, [2, 4, 6, 8, 9])])
    def test_source_that_takes_long(self, plain: Wire, seconds: float, expected: list[int]) -> None:
        """
        A slice of send_from ends after 10 ms even if few events were sent.
        """
        opened = Opened(plain)
        plain.reactor.advance(1000)
        turns: list[int] = []
        asked = 0

        def source() -> Iterator[str]:
            nonlocal asked
            for _ in range(9):
                asked += 1
                plain.reactor.rightNow += seconds
                yield "x"

        def turn() -> None:
            turns.append(asked)
            if asked < 9:
                plain.reactor.callLater(0, turn)

        plain.reactor.callLater(0, turn)
        Sent(opened.channel.send_from(source()))
        plain.reactor.run_soon()
        assert turns == expected
        opened.end()


class EndTests:
    def test_client_disconnects(self, wire: Wire) -> None:
        """
        When the client disconnects, the generator is closed, and send_from fires with the number of events
        sent.
        """
        opened = Opened(wire)
        closed: list[str] = []

        async def source() -> AsyncIterator[str]:
            try:
                yield "one"
                await deferLater(wire.reactor, 1000)
                yield "never"
            finally:
                closed.append("closed")

        sent = Sent(opened.channel.send_from(source()))
        opened.client.disconnect()
        wire.reactor.run_soon()
        assert closed == ["closed"]
        assert sent.results == [1]

    def test_slow_client_disconnects(self, wire: Wire) -> None:
        """
        A synchronous generator that waits for a slow client is closed when the client disconnects.
        """
        opened = Opened(wire)
        closed: list[str] = []

        def source() -> Iterator[str]:
            try:
                while True:
                    yield "x" * 1000
            finally:
                closed.append("closed")

        opened.client.stop_reading()
        sent = Sent(opened.channel.send_from(source()))
        opened.client.disconnect(clean=False)
        wire.reactor.run_soon()
        assert closed == ["closed"]
        assert len(sent.results) == 1

    def test_client_disconnects_before_a_deferred_fires(self, plain: Wire) -> None:
        """
        A Deferred that is a source is cancelled when the client disconnects.
        """
        opened = Opened(plain)
        cancelled: list[str] = []
        source: Deferred[str] = Deferred(lambda _: cancelled.append("cancelled"))
        sent = Sent(opened.channel.send_from(source))
        opened.client.disconnect()
        plain.reactor.run_soon()
        assert cancelled == ["cancelled"]
        assert sent.results == [0]

    def test_source_that_closes_its_channel(self, plain: Wire) -> None:
        """
        A source that closes its channel is closed, and its next event is not sent.
        """
        opened = Opened(plain)

        def source() -> Iterator[str]:
            yield "one"
            opened.channel.close()
            yield "two"
            raise AssertionError("asked again")

        sent = Sent(opened.channel.send_from(source()))
        assert sent.results == [1]
        assert opened.texts() == ["one"]

    def test_source_that_ignores_its_cancellation(self, plain: Wire) -> None:
        """
        A source that ignores its cancellation is closed when the client disconnects.
        """
        opened = Opened(plain)
        closed: list[str] = []

        async def source() -> AsyncIterator[str]:
            try:
                while True:
                    try:
                        await deferLater(plain.reactor, 1000)
                    except CancelledError:
                        yield "I go on"
            finally:
                closed.append("closed")

        sent = Sent(opened.channel.send_from(source()))
        opened.client.disconnect()
        plain.reactor.run_soon()
        assert closed == ["closed"]
        assert sent.results == [0]

    def test_item_that_is_refused(self, plain: Wire) -> None:
        """
        After an invalid item the source is closed, and send_from fails when it has cleaned up.
        """
        opened = Opened(plain)
        closed: list[str] = []

        async def source() -> AsyncIterator[Any]:
            try:
                yield 1
            finally:
                await deferLater(plain.reactor, 1)
                closed.append("closed")

        sent = Sent(opened.channel.send_from(source()))
        assert sent.results == []
        plain.reactor.advance(1)
        assert closed == ["closed"]
        assert sent.error is TypeError
        opened.end()

    def test_generator_with_another_reference(self, plain: Wire) -> None:
        """
        A generator is closed at once after an invalid item, even if other code refers to it.
        """
        opened = Opened(plain)
        closed: list[str] = []

        def source() -> Iterator[Any]:
            try:
                yield 1
            finally:
                closed.append("closed")

        held = source()
        sent = Sent(opened.channel.send_from(held))
        assert closed == ["closed"]
        assert sent.error is TypeError
        opened.end()

    def test_sending_that_is_cancelled(self, plain: Wire) -> None:
        """
        Cancelling send_from cancels its source, and the channel stays open.
        """
        opened = Opened(plain)
        source: Deferred[str] = Deferred()
        sent = Sent(opened.channel.send_from(source))
        sent.sending.cancel()
        assert sent.error is CancelledError
        assert opened.channel.is_open
        opened.end()

    def test_channel_closed_before(self, plain: Wire) -> None:
        """
        send_from on a closed channel fires with 0.
        """
        opened = Opened(plain)
        opened.channel.close()
        sent = Sent(opened.channel.send_from(["x"]))
        assert sent.results == [0]

    def test_source_that_takes_its_time_to_clean_up(self, plain: Wire) -> None:
        """
        A source's cleaning up is not cancelled, and send_from waits for it.
        """
        opened = Opened(plain)
        cleaned: list[str] = []

        async def source() -> AsyncIterator[str]:
            try:
                yield "one"
                opened.channel.close()
                yield "two"
            finally:
                await deferLater(plain.reactor, 1)
                cleaned.append("cleaned")

        sent = Sent(opened.channel.send_from(source()))
        plain.reactor.run_soon()
        assert sent.results == []
        plain.reactor.advance(1)
        assert cleaned == ["cleaned"]
        assert sent.results == [1]

    def test_callbacks_after_the_sending(self, plain: Wire) -> None:
        """
        A Deferred that a callback of send_from returns is not cancelled when the channel closes.
        """
        opened = Opened(plain)
        cancelled: list[str] = []
        source: Deferred[str] = Deferred()
        saving: Deferred[None] = Deferred(lambda _: cancelled.append("saving"))
        sending = opened.channel.send_from(source)
        sending.addCallback(lambda _: saving)
        opened.channel.close()
        source.callback("last")
        plain.reactor.run_soon()
        assert cancelled == []
        saving.callback(None)

    def test_nothing_left_behind(self, plain: Wire) -> None:
        """
        A channel keeps no references to its ended sources, however many there were.
        """
        opened = Opened(plain)
        for _ in range(100):
            opened.channel.send_from(["x"])
            opened.channel.send_from(deferLater(plain.reactor, 1, lambda: "y"))
        plain.reactor.advance(1)
        assert len(opened.channel._when_closed._waiting) == 1  # type: ignore[union-attr]
        opened.end()
