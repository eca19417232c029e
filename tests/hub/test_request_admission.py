"""
Requests for streams: from HTTP request and access rule to a subscriber, or to an error response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import LogEvent
from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes import Wire
from tests.hub.fakes import Member, Prefix, ScriptedJournal, World, outcome_of
from txsse import Access, CloseReason, JournalFailed, Limits, Subscriber, UpgradeRefused
from txsse.hub.request_admission import RequestAdmission

ORIGIN = "https://example.org"


@pytest.fixture
def scripted(world: World) -> Iterator[World]:
    """
    Return a hub whose journal answers when the test releases it.
    """
    made = World(world.wire, journal=ScriptedJournal(reactor=world.reactor))
    yield made
    made.end()


def journal_of(world: World) -> ScriptedJournal:
    journal = world.hub._given_journal or world.hub._distribution.journal  # type: ignore[union-attr]
    assert isinstance(journal, ScriptedJournal)
    return journal


class HeaderTests:
    def test_without_last_event_id(self, world: World) -> None:
        """
        The response to a client without a last event ID has no ``Last-Event-ID`` header.
        """
        world.publish("a")
        member = world.join()
        assert member.client.status == 200
        assert member.client.headers["content-type"] == "text/event-stream"
        assert "last-event-id" not in member.client.headers
        assert "access-control-expose-headers" not in member.client.headers

    def test_resumed(self, world: World) -> None:
        """
        The response to a client that resumes repeats its last event ID in a header.
        """
        first, second = world.publish("a", "b")
        assert world.join(last_event_id=first).client.headers["last-event-id"] == first
        assert world.join(last_event_id=second).client.headers["last-event-id"] == second

    def test_resumed_from_an_empty_journal(self, world: World) -> None:
        """
        The response repeats a resume ID that was sent while the journal was empty.
        """
        origin = world.join().last_event_id
        world.publish("a")
        assert world.join(last_event_id=origin).client.headers["last-event-id"] == origin

    @pytest.mark.parametrize("id", ["unknown", "earliest"])
    def test_from_the_oldest(self, world: World, id: str) -> None:
        """
        If the replay begins with the oldest update, the response has ``Last-Event-ID: earliest``.
        """
        world.publish("a")
        assert world.join(last_event_id=id).client.headers["last-event-id"] == "earliest"

    def test_id_beyond_ascii(self, world: World) -> None:
        """
        A last event ID that is not ASCII is repeated in UTF-8.
        """
        world.publish("a", id="é")
        member = world.join(path="/?lastEventId=%C3%A9")
        assert member.client.headers["last-event-id"].encode("latin-1").decode() == "é"

    def test_page_of_another_origin(self, new_world: Callable[..., World]) -> None:
        """
        CORS headers expose ``Last-Event-ID`` to a page of an allowed origin, if the response has that header.
        """
        world = new_world(upgrader={"allow_origins": [ORIGIN]})
        (first,) = world.publish("a")
        resumed = world.join(last_event_id=first, headers={"Origin": ORIGIN})
        assert resumed.client.headers["access-control-allow-origin"] == ORIGIN
        assert resumed.client.headers["access-control-expose-headers"] == "Last-Event-ID"
        visiting = world.join(headers={"Origin": ORIGIN})
        assert visiting.client.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-expose-headers" not in visiting.client.headers

    def test_each_way(self, any_world: World) -> None:
        """
        On every kind of connection, the response to a client that resumes repeats its last event ID.
        """
        (first,) = any_world.publish("a")
        member = any_world.join(last_event_id=first)
        assert member.client.headers["last-event-id"] == first


class RuleTests:
    def test_fixed(self, world: World) -> None:
        """
        A resource takes a topic, a selector, several of them or an ``Access``.
        """
        rules: list[Any] = ["a", Prefix("b"), ["a", Prefix("b")], iter(["a"]), Access("a"), "*"]
        members = [world.join(rule) for rule in rules]
        world.publish("1", topics="a")
        world.publish("2", topics="b/1")
        assert [member.texts for member in members] == [
            ["1"],
            ["2"],
            ["1", "2"],
            ["1"],
            ["1"],
            ["1", "2"],
        ]

    def test_fixed_for_many(self, world: World) -> None:
        """
        A resource that was given an iterator of topics uses them for every client.
        """
        resource = world.hub.resource(iter(["a", "b"]))
        clients = [world.wire.connect(resource).request() for _ in range(2)]
        assert [channel.watcher.topics.exact for channel in world.channels] == [("a", "b")] * 2  # type: ignore[union-attr]
        for client in clients:
            client.disconnect()

    def test_fixed_with_wrong_type(self, world: World) -> None:
        """
        ``hub.resource`` raises ``TypeError`` at once for topics of a wrong type.
        """
        with pytest.raises(TypeError):
            world.hub.resource(7)  # type: ignore[arg-type]

    def test_called_with_the_request(self, world: World) -> None:
        """
        An access rule is called with the request, and decides for this request only.
        """

        def rule(request: Request) -> list[str]:
            return [topic.decode() for topic in (request.args or {})[b"topic"]]

        member = world.join(rule, path="/?topic=a&topic=b")
        other = world.join(rule, path="/?topic=c")
        world.publish("1", topics="a")
        world.publish("2", topics="b")
        world.publish("3", topics="c")
        assert (member.texts, other.texts) == (["1", "2"], ["3"])

    def test_coroutine(self, world: World) -> None:
        """
        An access rule may be a coroutine function.
        """

        async def rule(request: Request) -> Access:
            return Access("news", private="news")

        member = world.join(rule)
        world.publish("secret", private=True)
        assert member.texts == ["secret"]

    def test_deferred(self, world: World) -> None:
        """
        A client waits for a rule's Deferred, and gets the updates that are published after it fires.
        """
        rights: Deferred[str] = Deferred()
        member = world.join(lambda request: rights)
        world.publish("too early")
        assert member.client.status == 0
        assert world.hub.subscribers.total == 0
        rights.callback("news")
        world.publish("a")
        assert member.texts == ["a"]
        assert member.client.status == 200

    def test_no_topics(self, world: World) -> None:
        """
        A client whose rule returns no topics gets a stream without updates.
        """
        member = world.join(lambda request: [])
        world.publish("a")
        assert member.client.status == 200
        assert member.texts == []


class RefusalTests:
    def raising(self, error: Exception, way: str) -> Callable[[Request], Any]:
        def at_once(request: Request) -> Any:
            raise error

        async def coroutine(request: Request) -> Any:
            raise error

        ways: dict[str, Callable[[Request], Any]] = {
            "at once": at_once,
            "coroutine": coroutine,
            "deferred": lambda request: fail(error),
        }
        return ways[way]

    @pytest.mark.parametrize("way", ["at once", "coroutine", "deferred"])
    def test_refused_by_the_rule(self, world: World, failures: list[LogEvent], way: str) -> None:
        """
        An ``UpgradeRefused`` of a rule becomes the response, however the rule raises it, and is not logged.
        """
        member = world.join(self.raising(UpgradeRefused("log in first", status=401), way))
        assert member.client.status == 401
        assert member.client.body == b"log in first\n"
        assert member.client.headers["content-type"] == "text/plain; charset=utf-8"
        assert member.client.ended
        assert world.channels == []
        assert failures == []

    def test_refused_later(self, world: World) -> None:
        """
        A rule may refuse a client after a delay.
        """
        rights: Deferred[str] = Deferred()
        member = world.join(lambda request: rights)
        rights.errback(UpgradeRefused("not you", status=403))
        member.client.pump()
        assert member.client.status == 403
        assert member.client.body == b"not you\n"

    def test_refused_with_204(self, world: World) -> None:
        """
        A rule may refuse with 204, which stops a browser permanently; the response has no body.
        """
        member = world.join(self.raising(UpgradeRefused("no more", status=204), "at once"))
        assert member.client.status == 204
        assert member.client.body == b""

    def test_page_of_another_origin(self, new_world: Callable[..., World]) -> None:
        """
        Error responses have CORS headers, so that a page of an allowed origin can read them.
        """
        world = new_world(upgrader={"allow_origins": [ORIGIN]}, max_topics=1)
        errors = [UpgradeRefused("log in first", status=401), ValueError("broken")]
        rules: list[Any] = [*(self.raising(error, "at once") for error in errors), ["a", "b"]]
        for rule, status in zip(rules, (401, 500, 400), strict=True):
            member = world.join(rule, headers={"Origin": ORIGIN})
            assert member.client.status == status
            assert member.client.headers["access-control-allow-origin"] == ORIGIN
        world.hub.stop()
        member = world.join(headers={"Origin": ORIGIN})
        assert (member.client.status, member.client.ended) == (200, True)
        assert member.client.headers["access-control-allow-origin"] == ORIGIN

    @pytest.mark.parametrize("way", ["at once", "coroutine", "deferred"])
    def test_failing_rule(self, world: World, failures: list[LogEvent], way: str) -> None:
        """
        If a rule raises an unexpected error, the client gets 500 without details, and the error is logged.
        """
        member = world.join(self.raising(ZeroDivisionError("secret"), way))
        assert member.client.status == 500
        assert member.client.body == b"your access could not be determined\n"
        assert member.client.ended
        (event,) = failures
        assert event["log_failure"].type is ZeroDivisionError
        assert event["request"].uri == b"/"
        assert world.channels == []

    @pytest.mark.parametrize("granted", [None, 7, [7], Access("a", private=7)])  # type: ignore[arg-type]
    def test_rule_returns_wrong_type(self, world: World, failures: list[LogEvent], granted: Any) -> None:
        """
        If a rule returns values of a wrong type, the client gets 500, and a ``TypeError`` is logged.
        """
        assert world.join(lambda request: granted).client.status == 500
        assert failures[0]["log_failure"].type is TypeError

    def test_refusal_without_a_status(self, world: World, failures: list[LogEvent]) -> None:
        """
        If a rule raises ``UpgradeRefused`` without a status, the client gets 500, and the error is logged.
        """
        member = world.join(self.raising(UpgradeRefused("no", status=None), "at once"))
        assert member.client.status == 500
        assert len(failures) == 1

    @pytest.mark.parametrize("way", ["at once", "coroutine", "deferred"])
    def test_rule_is_cancelled(self, world: World, failures: list[LogEvent], way: str) -> None:
        """
        If a rule raises ``CancelledError`` although the client is connected, the client gets 500.
        """
        member = world.join(self.raising(CancelledError(), way))
        assert member.client.status == 500
        assert len(failures) == 1

    def test_too_many_topics(self, new_world: Callable[..., World]) -> None:
        """
        A subscription of more than ``max_topics`` gets 400 without Retry-After.
        """
        world = new_world(max_topics=2)
        assert world.join(["a", Prefix("b")]).client.status == 200
        member = world.join(["a", Prefix("b"), "*"])
        assert member.client.status == 400
        assert member.client.body == b"3 topics in one subscription; 2 is the limit\n"
        assert "retry-after" not in member.client.headers
        assert len(world.channels) == 1

    def test_journal_fails(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        If the journal cannot find the last event ID because of an error, the client gets a stream, and
        resumes when the journal works again.
        """
        first, _ = scripted.publish("a", "b")
        journal = journal_of(scripted)
        journal.errors["find"] = OSError("no journal")
        member = scripted.join(last_event_id=first)
        assert member.client.status == 200
        assert "last-event-id" not in member.client.headers
        assert [event["log_failure"].type for event in failures] == [OSError, OSError]
        scripted.publish("c")
        assert member.texts == []
        del journal.errors["find"]
        scripted.reactor.advance(1)
        member.client.pump()
        assert member.texts == ["b", "c"]

    def test_journal_failed_is_not_logged(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        Requests do not log ``JournalFailed``, because the journal logs its problem itself.
        """
        first, _ = scripted.publish("a", "b")
        journal = journal_of(scripted)
        journal.errors["find"] = JournalFailed("x", "is unavailable")
        members = [scripted.join(last_event_id=first) for _ in range(10)]
        scripted.hub._distribution.updates_missed(journal.head)  # type: ignore[union-attr]
        assert failures == []
        journal.errors.clear()
        scripted.reactor.advance(1)
        for member in members:
            member.client.pump()
        assert [member.texts for member in members] == [["b"]] * 10

    def test_journal_fails_for_many(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        An unexpected error of the journal is logged a few times, however many clients connect.
        """
        first, _ = scripted.publish("a", "b")
        journal_of(scripted).errors["find"] = OSError("no journal")
        resource = scripted.hub.resource("news")
        clients = [scripted.wire.connect(resource) for _ in range(50)]
        for client in clients:
            assert client.request("/", headers={"Last-Event-ID": first}).status == 200
        # Of the resource, and of the subscribers that wait for the journal.
        assert 0 < len(failures) <= 10
        failures.clear()
        for client in clients:
            client.disconnect(clean=False)
        scripted.reactor.advance(1)

    def test_rule_raises_journal_failed(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        If a rule raises ``JournalFailed``, the client gets 503 with Retry-After, and nothing is logged.
        """

        def rule(request: object) -> Any:
            raise JournalFailed("x", "is unavailable")

        member = scripted.join(rule)
        assert member.client.status == 503
        assert member.client.headers["retry-after"] == "5"
        assert failures == []


class OtherResponsesTests:
    @pytest.mark.parametrize(
        ("method", "headers", "status"),
        [
            ("OPTIONS", {}, 204),
            ("POST", {}, 405),
            ("GET", {"Accept": "text/html"}, 406),
            ("GET", {"Last-Event-ID": "x" * 1025}, 400),
        ],
    )
    def test_no_stream(self, any_world: World, method: str, headers: dict[str, str], status: int) -> None:
        """
        A request that cannot become a stream gets its response without a call of the rule.
        """
        asked: list[Request] = []
        member = any_world.join(asked.append, method=method, headers=headers)
        assert member.client.status == status
        assert asked == []
        assert any_world.channels == []
        assert any_world.hub.subscribers.total == 0

    def test_head(self, world: World) -> None:
        """
        A HEAD request gets the status and headers of a GET, so the rule is called.
        """
        head = world.join("news", method="HEAD")
        assert (head.client.status, head.client.headers["content-type"]) == (200, "text/event-stream")
        assert world.join(lambda request: "news", method="HEAD").client.status == 200

        def refuse(request: Request) -> str:
            raise UpgradeRefused("log in first", status=401, headers={"WWW-Authenticate": "Bearer"})

        refused = world.join(refuse, method="HEAD")
        assert (refused.client.status, refused.client.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.client.headers["content-type"] == "text/plain; charset=utf-8"
        assert "x-accel-buffering" not in refused.client.headers
        assert world.channels == []

    def test_allowed(self, world: World) -> None:
        """
        The response to OPTIONS lists the allowed methods.
        """
        assert world.join(method="OPTIONS").client.headers["allow"] == "GET, HEAD, OPTIONS"

    def test_too_many(self, new_world: Callable[..., World]) -> None:
        """
        A client that exceeds the limit per address gets 429, and the rule is not called.
        """
        world = new_world(upgrader={"limits": Limits(per_address=1)})
        first = world.join()
        asked: list[Request] = []
        member = world.join(asked.append)
        assert member.client.status == 429
        assert member.client.headers["retry-after"] == "5"
        assert asked == []
        first.leave()
        assert world.join().client.status == 200

    def test_too_many_in_total(self, new_world: Callable[..., World]) -> None:
        """
        A client that exceeds the limit of all channels gets 503 with Retry-After.
        """
        world = new_world(upgrader={"limits": Limits(channels=1, retry_after=30)})
        world.join()
        member = world.join()
        assert member.client.status == 503
        assert member.client.headers["retry-after"] == "30"

    def test_too_many_after_the_rule(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        A client gets 503 once if another client takes the last channel while its rule runs.
        """
        world = new_world(upgrader={"limits": Limits(channels=1)})
        rights: Deferred[str] = Deferred()
        waiting = world.join(lambda request: rights)
        assert world.join().client.status == 200
        rights.callback("news")
        waiting.client.pump()
        assert waiting.client.status == 503
        assert waiting.client.body == b"the server has reached its limit of streams\n"
        assert failures == []
        assert world.hub.subscribers.total == 1


class DisconnectTests:
    def test_during_the_rule(self, any_world: World, failures: list[LogEvent]) -> None:
        """
        If a client disconnects while its rule's Deferred waits, the Deferred is cancelled, and no stream is
        opened.
        """
        cancelled: list[Deferred[str]] = []
        rights: Deferred[str] = Deferred(cancelled.append)
        member = any_world.join(lambda request: rights)
        member.client.disconnect(clean=any_world.wire.kind == "http2")
        any_world.reactor.run_soon()
        assert cancelled == [rights]
        assert any_world.channels == []
        assert any_world.hub.subscribers.total == 0
        assert failures == []

    def test_during_a_coroutine(self, world: World) -> None:
        """
        If a client disconnects while its rule's coroutine waits, the coroutine is cancelled.
        """
        seen: list[str] = []
        never: Deferred[None] = Deferred()

        async def rule(request: Request) -> str:
            try:
                await never
            except CancelledError:
                seen.append("cancelled")
                raise
            return "news"

        member = world.join(rule)
        member.leave()
        assert seen == ["cancelled"]
        assert world.channels == []

    def test_rule_ignores_the_cancellation(self, world: World, failures: list[LogEvent]) -> None:
        """
        A rule that continues after its cancellation opens no stream for the disconnected client.
        """
        never: Deferred[None] = Deferred()

        async def rule(request: Request) -> str:
            try:
                await never
            except CancelledError:
                pass
            return "news"

        member = world.join(rule)
        member.leave()
        assert world.channels == []
        assert failures == []

    def test_rule_fails_after_the_cancellation(self, world: World, failures: list[LogEvent]) -> None:
        """
        An error of a rule after its cancellation is not logged.
        """
        never: Deferred[None] = Deferred()

        async def rule(request: Request) -> str:
            try:
                await never
            except CancelledError:
                raise ZeroDivisionError from None
            return "news"

        world.join(rule).leave()
        assert world.channels == []
        assert failures == []

    @pytest.mark.parametrize("name", ["find", "start"])
    def test_during_the_lookup(self, scripted: World, failures: list[LogEvent], name: str) -> None:
        """
        If a client disconnects while the journal looks up its last event ID, the lookup is cancelled for this
        client only.
        """
        journal = journal_of(scripted)
        journal.held.add(name)
        member, other = scripted.join(last_event_id="1"), scripted.join(last_event_id="2")
        member.leave()
        assert journal.cancelled == ([name] if name == "find" else [])
        journal.release(name)
        scripted.publish("a")
        assert other.texts == ["stream-reset", "a"]
        assert len(scripted.channels) == 1
        assert failures == []

    def test_after_a_slow_rule(self, world: World) -> None:
        """
        A stream that was opened after a slow rule ends when the client disconnects.
        """
        rights: Deferred[str] = Deferred()
        member = world.join(lambda request: rights)
        rights.callback("news")
        assert world.hub.subscribers.total == 1
        reasons = outcome_of(world.channels[0].when_closed())
        member.leave()
        assert reasons == [CloseReason.CLIENT_GONE]
        assert world.hub.subscribers.total == 0

    def test_connection_is_reused(self, world: World) -> None:
        """
        After a delayed refusal, the same connection takes another request.
        """
        rights: list[Deferred[str]] = [Deferred(), Deferred()]
        waiting = list(rights)
        member: Member = world.join(lambda request: waiting.pop(0))
        rights[0].errback(UpgradeRefused("not yet", status=403))
        member.client.pump()
        assert member.client.status == 403
        member.client.reset_response()
        member.client.request()
        rights[1].callback("news")
        world.publish("a")
        member.client.pump()
        assert member.client.status == 200
        assert b"data: a\n\n" in member.client.body


class AccessTests:
    """
    The last event ID and the expiry of an ``Access``.
    """

    @pytest.mark.parametrize("is_rule", [False, True])
    def test_last_event_id(self, world: World, is_rule: bool) -> None:
        """
        The last event ID of an ``Access`` takes precedence over the request's, and is in the response's
        headers.
        """
        first, second = world.publish("a", "b")
        access = Access("news", last_event_id=first)
        member = world.join((lambda request: access) if is_rule else access, last_event_id=second)
        assert member.texts == ["b"]
        assert member.client.headers["last-event-id"] == first

    def test_empty_last_event_id(self, world: World) -> None:
        """
        An ``Access`` with an empty last event ID begins at the head, whatever the request says.
        """
        first, second = world.publish("a", "b")
        member = world.join(Access("news", last_event_id=""), last_event_id=first)
        assert member.texts == []
        assert member.client.headers["last-event-id"] == second

    @pytest.mark.parametrize("id", ["a\nb", "\0", "x" * 1025])
    def test_invalid_last_event_id(self, world: World, id: str) -> None:
        """
        An ``Access`` with an invalid last event ID gets 400, as a request with one does.
        """
        assert world.join(Access("news", last_event_id=id)).client.status == 400

    @pytest.mark.parametrize("is_rule", [False, True])
    def test_expires(self, world: World, is_rule: bool) -> None:
        """
        The hub closes a stream when its ``Access`` expires.
        """
        access = Access("news", expires=60)
        member = world.join((lambda request: access) if is_rule else access)
        world.publish("a")
        world.reactor.advance(59.9)
        assert member.channel.is_open
        world.reactor.advance(0.2)
        world.reactor.run_soon()
        assert member.channel.close_reason is CloseReason.EXPIRED
        assert member.texts == ["a"]
        world.end()

    def test_expired(self, world: World) -> None:
        """
        A request with an expired ``Access`` gets 403.
        """
        member = world.join(Access("news", expires=0))
        assert member.client.status == 403
        assert b"your access has expired" in member.client.body

    def test_head_with_expired_access(self, world: World) -> None:
        """
        A HEAD request with an expired ``Access`` gets 403, as a GET does.
        """
        access = Access("news", expires=0)
        assert world.join(lambda request: access, method="HEAD").client.status == 403

    def test_subscription_expires(self, world: World) -> None:
        """
        The hub closes a channel that was subscribed without a resource when its subscription expires.
        """
        opened = world.open()
        world.hub.subscribe(opened.channel, "news", expires=60)
        world.reactor.advance(60.1)
        assert opened.channel.close_reason is CloseReason.EXPIRED
        world.end()

    def test_subscribed_callback(self, plain: Wire) -> None:
        """
        A custom HTTP resource is notified of each subscriber and its ``Access``.
        """
        world = World(plain)
        begun: list[tuple[Subscriber, Access]] = []
        access = Access("news")

        class Face(Resource):
            isLeaf = True

            def __init__(self) -> None:
                super().__init__()  # type: ignore[no-untyped-call]
                self.requests = RequestAdmission(
                    world.hub.admission,
                    lambda request: access,
                    world.hub.upgrader,
                    subscribed=lambda *each: begun.append(each),
                )

            def render(self, request: Request) -> int:
                return self.requests.render(request)

        client = plain.connect(Face())
        client.request()
        assert [(subscriber.id, given) for subscriber, given in begun] == [("1", access)]
        client.disconnect()
