"""
Tests of SSEResource: the results that a handler may return, and how each one ends the stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.web.http import Request

from tests.fakes import Client, Wire
from txsse import Access, CloseReason, Limits, SSEChannel, SSEResource, UpgradeRefused
from txsse.server import upgrade as upgrade_module


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    """
    Collect the failures that are logged during a test.
    """
    logged: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            logged.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield logged
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


class Served:
    """
    A resource with a handler and one client.
    """

    def __init__(self, wire: Wire, handler: Callable[[SSEChannel], Any], **options: Any) -> None:
        self.channels: list[SSEChannel] = []

        def opened(channel: SSEChannel) -> Any:
            self.channels.append(channel)
            return handler(channel)

        resource = SSEResource(opened, upgrader=wire.upgrader(**options))
        self.client: Client = wire.connect(resource).request()

    @property
    def channel(self) -> SSEChannel:
        (channel,) = self.channels
        return channel

    @property
    def body(self) -> str:
        self.client.pump()
        return self.client.body.decode()


class HandlerTests:
    def test_returns_none(self, wire: Wire) -> None:
        """
        The stream of a handler that returns None stays open.
        """
        served = Served(wire, lambda channel: channel.send("x"))
        wire.reactor.advance(1000)
        assert served.body == "data: x\n\n"
        assert served.channel.is_open
        served.channel.close()

    def test_returns_a_deferred(self, wire: Wire) -> None:
        """
        The stream of a handler that returns a Deferred closes when the Deferred fires.
        """
        done: Deferred[object] = Deferred()
        served = Served(wire, lambda _: done)
        assert served.channel.is_open
        done.callback("whatever")
        served.client.pump()
        assert served.client.ended
        assert served.channel.close_reason is CloseReason.SERVER_CLOSED

    def test_coroutine(self, wire: Wire) -> None:
        """
        The stream of a coroutine closes when the coroutine returns.
        """

        async def handler(channel: SSEChannel) -> None:
            for number in range(2):
                await deferLater(wire.reactor, 1.0)
                channel.send(str(number))

        served = Served(wire, handler)
        wire.reactor.pump([1.0, 1.0])
        assert served.body == "data: 0\n\ndata: 1\n\n"
        assert served.client.ended

    def test_inline_callbacks(self, plain: Wire) -> None:
        """
        A handler may use inlineCallbacks; its stream closes when it returns.
        """

        @inlineCallbacks
        def handler(channel: SSEChannel) -> Generator[Deferred[None], None, None]:
            yield channel.drain()
            channel.send("x")

        served = Served(plain, handler)
        plain.reactor.run_soon()
        assert served.body == "data: x\n\n"
        assert served.client.ended

    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_generators(self, plain: Wire, asynchronous: bool) -> None:
        """
        The events that a handler yields are sent, and then its stream closes.
        """

        async def slow(channel: SSEChannel) -> AsyncIterator[str]:
            yield "1"
            yield "2"

        def quick(channel: SSEChannel) -> Iterator[str]:
            yield "1"
            yield "2"

        served = Served(plain, slow if asynchronous else quick)
        assert served.body == "data: 1\n\ndata: 2\n\n"
        assert served.client.ended

    def test_awaitable_object(self, plain: Wire) -> None:
        """
        The stream of a handler that returns an awaitable closes when that is done.
        """
        done: Deferred[None] = Deferred()

        class Awaitable:
            def __await__(self) -> Any:
                return done.__await__()

        served = Served(plain, lambda _: Awaitable())
        assert served.channel.is_open
        done.callback(None)
        served.client.pump()
        assert served.client.ended

    def test_looping_call(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A handler may return the Deferred of a LoopingCall, which ends without a failure when the client
        disconnects.
        """
        served = Served(plain, lambda channel: LoopingCall.withCount(lambda _: channel.send("x")))
        assert served.client.ended
        assert len(failures) == 1
        failures.clear()

        def handler(channel: SSEChannel) -> Deferred[LoopingCall]:
            ticking = LoopingCall(lambda: channel.send("x"))
            ticking.clock = plain.reactor
            return ticking.start(1.0)

        served = Served(plain, handler)
        plain.reactor.pump([1.0] * 3)
        assert served.body == "data: x\n\n" * 4
        served.client.disconnect()
        plain.reactor.pump([1.0] * 2)
        assert failures == []

    def test_subclass(self, wire: Wire) -> None:
        """
        A subclass of SSEResource may override ``channel_opened``.
        """

        class Greeting(SSEResource):
            def channel_opened(self, channel: SSEChannel) -> None:
                channel.send("hello")
                channel.close()

        client = wire.connect(Greeting(upgrader=wire.upgrader())).request()
        assert client.body == b"data: hello\n\n"
        assert client.ended

    def test_no_handler(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        Without a handler, SSEResource opens a stream that stays open and silent.
        """
        client = plain.connect(SSEResource(upgrader=plain.upgrader())).request()
        assert client.status == 200
        assert not client.ended
        assert failures == []
        client.disconnect()

    def test_children(self) -> None:
        """
        An SSEResource lists no children.
        """
        assert SSEResource().listNames() == []

    def test_without_an_upgrader(self, plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Resources without an upgrader share a default one.
        """
        monkeypatch.setattr(upgrade_module, "global_reactor", lambda: plain.reactor)
        upgrade_module.default_upgrader.cache_clear()
        client = plain.connect(SSEResource(lambda channel: channel.send("x"))).request()
        assert client.body == b"data: x\n\n"
        plain.reactor.pump([1.0] * 15)
        client.pump()
        assert client.body == b"data: x\n\n:\n\n"
        client.disconnect()
        upgrade_module.default_upgrader.cache_clear()

    def test_paths_below_the_resource(self, plain: Wire) -> None:
        """
        An SSEResource serves all paths below its own.
        """
        client = plain.connect(SSEResource(upgrader=plain.upgrader())).request("/a/b?c=d")
        assert client.status == 200
        client.disconnect()


class FailingHandlerTests:
    def check(self, wire: Wire, failures: list[LogEvent], handler: Callable[[SSEChannel], Any]) -> None:
        served = Served(wire, handler)
        wire.reactor.run_soon()
        served.client.pump()
        assert served.client.ended
        assert served.channel.close_reason is CloseReason.HANDLER_FAILED
        (event,) = failures
        assert event["log_failure"].type is ZeroDivisionError
        assert "1 / 0" in event["log_failure"].getTraceback() or "division" in str(event["log_failure"])
        assert event["log_level"] is LogLevel.critical
        assert event["channel"] is served.channel

    def test_function(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        If a handler raises, the failure is logged with its traceback, and the stream ends.
        """
        self.check(wire, failures, lambda _: 1 / 0)

    def test_coroutine(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        If a coroutine handler raises later, the failure is logged with its traceback, and the stream ends.
        """

        async def handler(channel: SSEChannel) -> None:
            await channel.drain()
            1 / 0  # noqa: B018

        self.check(wire, failures, handler)

    def test_deferred(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        If the Deferred of a handler fails, the failure is logged with its traceback, and the stream ends.
        """
        self.check(plain, failures, lambda _: fail(ZeroDivisionError("division")))

    def test_generator(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        If a handler raises while it yields, the failure is logged with its traceback, and the stream ends.
        """

        def handler(channel: SSEChannel) -> Iterator[str]:
            yield "x"
            1 / 0  # noqa: B018

        self.check(plain, failures, handler)

    @pytest.mark.parametrize("result", [1, "text", b"", True])
    def test_returns_something_else(self, plain: Wire, failures: list[LogEvent], result: object) -> None:
        """
        If a handler returns a value of another type, the logged error lists the allowed ones.
        """
        served = Served(plain, lambda _: result)
        assert served.client.ended
        (event,) = failures
        assert f"the handler returned {result!r}; it may return None" in str(event["log_failure"])

    def test_cancels_something_of_its_own(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A CancelledError that a handler raises while its stream is open is logged as a failure.
        """
        served = Served(plain, lambda _: fail(CancelledError()))
        assert served.client.ended
        assert [event["log_failure"].type for event in failures] == [CancelledError]


class ClientDisconnectsTests:
    def test_coroutine(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        A coroutine handler is cancelled when the client disconnects, and nothing is logged.
        """
        seen: list[str] = []

        async def handler(channel: SSEChannel) -> None:
            try:
                await deferLater(wire.reactor, 1000)
            except CancelledError:
                seen.append("cancelled")
                raise

        served = Served(wire, handler)
        served.client.disconnect()
        wire.reactor.run_soon()
        assert seen == ["cancelled"]
        assert failures == []
        assert served.channel.close_reason is CloseReason.CLIENT_GONE

    def test_chain_of_deferreds(self, plain: Wire) -> None:
        """
        When the client disconnects, the Deferred that a handler's Deferred waits for is cancelled.
        """
        cancelled: list[str] = []
        inner: Deferred[None] = Deferred(lambda _: cancelled.append("inner"))
        served = Served(plain, lambda _: succeed(None).addCallback(lambda _: inner))
        served.client.disconnect()
        plain.reactor.run_soon()
        assert cancelled == ["inner"]

    def test_fails_while_it_cleans_up(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        If a handler fails while it cleans up after its client disconnected, the failure is logged.
        """

        async def handler(channel: SSEChannel) -> None:
            try:
                await deferLater(plain.reactor, 1000)
            finally:
                1 / 0  # noqa: B018

        Served(plain, handler).client.disconnect()
        plain.reactor.run_soon()
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]

    def test_handler_that_ignores_its_cancellation(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A handler that ignores its cancellation gets ChannelClosed when it sends, which is not logged.
        """

        async def handler(channel: SSEChannel) -> None:
            while True:
                try:
                    await deferLater(plain.reactor, 1000)
                except CancelledError:
                    channel.send("anybody?")

        Served(plain, handler).client.disconnect()
        plain.reactor.run_soon()
        assert failures == []

    def test_sends_after_closing(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        A handler that closes its channel and then sends fails without a log line.
        """

        def handler(channel: SSEChannel) -> None:
            channel.close()
            channel.send("too late")

        served = Served(plain, handler)
        assert served.client.ended
        assert failures == []


class HandlerClosesTests:
    def test_handler_continues_after_closing(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        A handler that closes its channel continues to run, and is cancelled at its next wait.
        """
        seen: list[str] = []

        async def handler(channel: SSEChannel) -> None:
            await channel.drain()
            channel.close()
            seen.append("still running")
            try:
                await deferLater(wire.reactor, 1000)
            finally:
                seen.append("cancelled")

        served = Served(wire, handler)
        wire.reactor.run_soon()
        served.client.pump()
        assert seen == ["still running", "cancelled"]
        assert served.client.ended
        assert failures == []

    def test_slow_client_is_closed(self, wire: Wire, failures: list[LogEvent]) -> None:
        """
        When the overflow policy closes a channel, its handler ends without a failure.
        """

        async def handler(channel: SSEChannel) -> None:
            while True:
                channel.send("x" * 10_000)
                await deferLater(wire.reactor, 1.0)

        served = Served(wire, handler, max_buffer=50_000)
        served.client.stop_reading()
        wire.reactor.pump([1.0] * 30)
        assert served.channel.close_reason is CloseReason.SLOW_READER
        assert failures == []
        if wire.kind == "http2":
            served.client.disconnect(clean=False)


class RefusedRequestTests:
    @pytest.mark.parametrize(
        ("method", "headers", "status"),
        [
            ("HEAD", {}, 200),
            ("OPTIONS", {}, 204),
            ("POST", {}, 405),
            ("GET", {"Accept": "text/html"}, 406),
            ("GET", {"Last-Event-ID": "\xff"}, 400),
            ("GET", {"Last-Event-ID": "x" * 1025}, 400),
        ],
    )
    def test_no_channel(
        self, wire: Wire, failures: list[LogEvent], method: str, headers: dict[str, str], status: int
    ) -> None:
        """
        A request that does not become a stream gets a complete response, and the handler is not called.
        """
        opened: list[SSEChannel] = []
        resource = SSEResource(opened.append, upgrader=wire.upgrader(keepalive=15.0))
        client = wire.connect(resource).request(method=method, headers=headers)
        assert client.status == status
        if wire.kind == "http2":
            assert client.ended
        assert opened == []
        assert failures == []
        wire.reactor.run_soon()
        assert wire.reactor.getDelayedCalls() == []


class AccessTests:
    """
    Tests of ``SSEResource(handler, access=...)``.
    """

    def serve(self, wire: Wire, access: Any, **request: Any) -> tuple[list[SSEChannel], Client]:
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, access=access, upgrader=wire.upgrader())
        return channels, wire.connect(resource).request(**request)

    @pytest.mark.parametrize("way", ["fixed", "at once", "coroutine", "deferred"])
    def test_granted(self, wire: Wire, way: str) -> None:
        """
        The channel has the key and the context of the access that the rule granted, however it returns it.
        """
        access = Access(key="ann", context=[1])

        async def coroutine(request: Request) -> Access:
            return access

        ways: dict[str, Any] = {
            "fixed": access,
            "at once": lambda request: access,
            "coroutine": coroutine,
            "deferred": lambda request: succeed(access),
        }
        (channel,), client = self.serve(wire, ways[way])
        assert (channel.key, channel.context) == ("ann", access.context)
        channel.send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        channel.close()

    def test_without_a_rule(self, plain: Wire) -> None:
        """
        A channel of a resource without a rule has no key and no context.
        """
        (channel,), client = self.serve(plain, None)
        assert (channel.key, channel.context) == (None, None)
        client.disconnect()

    def test_same_rule_as_a_hub(self, plain: Wire) -> None:
        """
        A rule that returns topics, as for a hub, grants a channel without a hub.
        """
        (channel,), client = self.serve(plain, lambda request: ["news", "sport"])
        assert channel.is_open
        client.disconnect()

    def test_granted_later(self, wire: Wire) -> None:
        """
        The response begins when the rule has decided.
        """
        decision: Deferred[Access] = Deferred()
        channels, client = self.serve(wire, lambda request: decision)
        assert (channels, client.status) == ([], 0)
        decision.callback(Access(key=7))
        client.pump()
        assert client.status == 200
        assert channels[0].key == 7
        channels[0].close()

    @pytest.mark.parametrize("status", [204, 307, 401, 403, 429])
    def test_refused(self, wire: Wire, failures: list[LogEvent], status: int) -> None:
        """
        A rule refuses a request with any status and headers; the handler is not called.
        """

        def rule(request: Request) -> Access:
            raise UpgradeRefused("not now", status=status, headers={"X-Why": "because"})

        channels, client = self.serve(wire, rule)
        assert (channels, client.status, client.ended) == ([], status, True)
        assert client.headers["x-why"] == "because"
        assert client.headers.get("cache-control") == "no-store"
        assert client.body == (b"" if status == 204 else b"not now\n")
        assert failures == []

    def test_rule_fails(self, plain: Wire, failures: list[LogEvent]) -> None:
        """
        If a rule raises an unexpected error, the client gets 500 without details, and the error is logged.
        """

        def rule(request: Request) -> Access:
            raise ZeroDivisionError("secret")

        channels, client = self.serve(plain, rule)
        assert (channels, client.status) == ([], 500)
        assert client.body == b"your access could not be determined\n"
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("granted", [None, False, True, 7, b"news", [None], Access, Access(cast(Any, 7))])
    def test_rule_returns_no_access(
        self, plain: Wire, failures: list[LogEvent], granted: Any, method: str
    ) -> None:
        """
        If a rule returns neither topics nor an access, such as ``False`` to refuse, no stream opens, and the
        log says how to refuse a request.
        """
        channels, client = self.serve(plain, lambda request: granted, method=method)
        assert (channels, client.status) == ([], 500)
        (event,) = failures
        assert "to refuse a request, raise UpgradeRefused" in str(event["log_failure"].value)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_disconnects_while_the_rule_decides(
        self, wire: Wire, failures: list[LogEvent], method: str
    ) -> None:
        """
        The rule's Deferred is cancelled if the client disconnects meanwhile; nothing is logged.
        """
        cancelled: list[object] = []
        channels, client = self.serve(wire, lambda request: Deferred(cancelled.append), method=method)
        client.disconnect()
        assert (len(cancelled), channels, failures) == (1, [], [])

    def test_head(self, plain: Wire) -> None:
        """
        A HEAD request gets the rule's refusal, or the headers that a GET gets.
        """
        granted, client = self.serve(plain, Access(key="ann"), method="HEAD")
        assert (granted, client.status) == ([], 200)
        assert client.headers["content-type"] == "text/event-stream"

        def refuse(request: Request) -> Access:
            raise UpgradeRefused("log in first", status=401)

        _, client = self.serve(plain, refuse, method="HEAD")
        assert client.status == 401

    def test_method_that_is_not_allowed(self, plain: Wire) -> None:
        """
        A request that no rule could grant gets its error without a call of the rule.
        """
        asked: list[Request] = []
        _, client = self.serve(plain, asked.append, method="DELETE")
        assert (client.status, asked) == (405, [])

    def test_expires(self, wire: Wire) -> None:
        """
        A channel without a hub closes when its access ends.
        """
        (channel,), client = self.serve(wire, lambda request: Access(expires=60))
        wire.reactor.advance(59.9)
        assert channel.is_open
        wire.reactor.advance(0.2)
        client.pump()
        assert channel.close_reason is CloseReason.EXPIRED
        assert client.ended

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_expired(self, plain: Wire, method: str) -> None:
        """
        A request whose access has ended already gets 403.
        """
        channels, client = self.serve(plain, lambda request: Access(expires=0), method=method)
        assert (channels, client.status) == ([], 403)

    def test_last_event_id(self, plain: Wire) -> None:
        """
        The last event ID of the access replaces the request's.
        """
        (channel,), client = self.serve(
            plain, lambda request: Access(last_event_id="7"), headers={"Last-Event-ID": "5"}
        )
        assert channel.last_event_id == "7"
        client.disconnect()

    def test_invalid_last_event_id(self, plain: Wire) -> None:
        """
        An invalid last event ID of the access gets 400, as that of a request does.
        """
        channels, client = self.serve(plain, lambda request: Access(last_event_id="\0"))
        assert (channels, client.status) == ([], 400)

    def test_limit_reached_while_the_rule_decides(self, plain: Wire) -> None:
        """
        The limit of streams is checked again after the rule has decided.
        """
        decisions: list[Deferred[Access]] = []

        def rule(request: Request) -> Deferred[Access]:
            decisions.append(Deferred())
            return decisions[-1]

        channels: list[SSEChannel] = []
        upgrader = plain.upgrader(limits=Limits(channels=1))
        resource = SSEResource(channels.append, access=rule, upgrader=upgrader)
        clients = [plain.connect(resource).request() for _ in range(2)]
        for decision in decisions:
            decision.callback(Access())
        for client in clients:
            client.pump()
        assert [client.status for client in clients] == [200, 503]
        channels[0].close()

    def test_rule_of_a_wrong_type(self) -> None:
        """
        An ``access`` that is neither an ``Access`` nor callable is refused.
        """
        with pytest.raises(TypeError, match="access must be an Access, or a callable"):
            SSEResource(access=cast(Any, "news"))
