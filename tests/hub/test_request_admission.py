"""
Requests that become subscribers: who gets what, and what the others are answered.
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
    A hub whose journal answers when the test says so.
    """
    made = World(world.wire, journal=ScriptedJournal(reactor=world.reactor))
    yield made
    made.end()


def journal_of(world: World) -> ScriptedJournal:
    journal = world.hub._given_journal or world.hub._distribution.journal  # type: ignore[union-attr]
    assert isinstance(journal, ScriptedJournal)
    return journal


class HeaderTests:
    def test_first_visit(self, world: World) -> None:
        """
        A stream is opened, with its usual headers and none about resuming.
        """
        world.publish("a")
        member = world.join()
        assert member.client.status == 200
        assert member.client.headers["content-type"] == "text/event-stream"
        assert "last-event-id" not in member.client.headers
        assert "access-control-expose-headers" not in member.client.headers

    def test_resumed(self, world: World) -> None:
        """
        The header says where the replay began: at the id that was asked for.
        """
        first, second = world.publish("a", "b")
        assert world.join(last_event_id=first).client.headers["last-event-id"] == first
        assert world.join(last_event_id=second).client.headers["last-event-id"] == second

    def test_resumed_at_the_beginning(self, world: World) -> None:
        """
        So it says for the id that the hub made up before there were updates.
        """
        origin = world.join().last_event_id
        world.publish("a")
        assert world.join(last_event_id=origin).client.headers["last-event-id"] == origin

    @pytest.mark.parametrize("id", ["unknown", "earliest"])
    def test_from_the_oldest(self, world: World, id: str) -> None:
        """
        Where it begins with the oldest update, the header says so.
        """
        world.publish("a")
        assert world.join(last_event_id=id).client.headers["last-event-id"] == "earliest"

    def test_id_beyond_ascii(self, world: World) -> None:
        """
        It goes back as it came, in UTF-8.
        """
        world.publish("a", id="é")
        member = world.join(path="/?lastEventId=%C3%A9")
        assert member.client.headers["last-event-id"].encode("latin-1").decode() == "é"

    def test_page_of_another_origin(self, new_world: Callable[..., World]) -> None:
        """
        It may read the header, where there is one.
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
        It is the same whatever the way to the client.
        """
        (first,) = any_world.publish("a")
        member = any_world.join(last_event_id=first)
        assert member.client.headers["last-event-id"] == first


class RuleTests:
    def test_fixed(self, world: World) -> None:
        """
        A topic, a selector, several, or an Access: all are topics.
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
        The same resource serves everybody, though it was given an iterator.
        """
        resource = world.hub.resource(iter(["a", "b"]))
        clients = [world.wire.connect(resource).request() for _ in range(2)]
        assert [channel.watcher.topics.exact for channel in world.channels] == [("a", "b")] * 2  # type: ignore[union-attr]
        for client in clients:
            client.disconnect()

    def test_fixed_and_wrong(self, world: World) -> None:
        """
        Topics that are none are refused when the resource is made.
        """
        with pytest.raises(TypeError):
            world.hub.resource(7)  # type: ignore[arg-type]

    def test_called_with_the_request(self, world: World) -> None:
        """
        A rule sees the request, and decides for it.
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
        It may be a coroutine.
        """

        async def rule(request: Request) -> Access:
            return Access("news", private="news")

        member = world.join(rule)
        world.publish("secret", private=True)
        assert member.texts == ["secret"]

    def test_deferred(self, world: World) -> None:
        """
        It may take its time; the client waits meanwhile, and is sent what is published from then on.
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

    def test_nothing_granted(self, world: World) -> None:
        """
        Whoever may read nothing has a stream in which nothing comes.
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
        The client gets the status and the reason, however the rule says so, and nothing is logged.
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
        Or after a while.
        """
        rights: Deferred[str] = Deferred()
        member = world.join(lambda request: rights)
        rights.errback(UpgradeRefused("not you", status=403))
        member.client.pump()
        assert member.client.status == 403
        assert member.client.body == b"not you\n"

    def test_stop_a_browser_for_good(self, world: World) -> None:
        """
        204 is an answer too, and has no body.
        """
        member = world.join(self.raising(UpgradeRefused("no more", status=204), "at once"))
        assert member.client.status == 204
        assert member.client.body == b""

    def test_page_of_another_origin(self, new_world: Callable[..., World]) -> None:
        """
        It may read why.
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
        A rule that fails opens nothing: the client gets 500, and the log what happened.
        """
        member = world.join(self.raising(ZeroDivisionError("secret"), way))
        assert member.client.status == 500
        assert member.client.body == b"what you may read cannot be told\n"
        assert member.client.ended
        (event,) = failures
        assert event["log_failure"].type is ZeroDivisionError
        assert event["request"].uri == b"/"
        assert world.channels == []

    @pytest.mark.parametrize("granted", [None, 7, [7], Access("a", private=7)])  # type: ignore[arg-type]
    def test_rule_that_returns_no_topics(self, world: World, failures: list[LogEvent], granted: Any) -> None:
        """
        So does one that returns what cannot be topics.
        """
        assert world.join(lambda request: granted).client.status == 500
        assert failures[0]["log_failure"].type is TypeError

    def test_refusal_without_a_status(self, world: World, failures: list[LogEvent]) -> None:
        """
        And one that refuses, and does not say how.
        """
        member = world.join(self.raising(UpgradeRefused("no", status=None), "at once"))
        assert member.client.status == 500
        assert len(failures) == 1

    @pytest.mark.parametrize("way", ["at once", "coroutine", "deferred"])
    def test_rule_whose_work_was_cancelled(self, world: World, failures: list[LogEvent], way: str) -> None:
        """
        Where it was not the client that went, the client is answered.
        """
        member = world.join(self.raising(CancelledError(), way))
        assert member.client.status == 500
        assert len(failures) == 1

    def test_too_many_topics(self, new_world: Callable[..., World]) -> None:
        """
        They are refused for good.
        """
        world = new_world(max_topics=2)
        assert world.join(["a", Prefix("b")]).client.status == 200
        member = world.join(["a", Prefix("b"), "*"])
        assert member.client.status == 400
        assert member.client.body == b"3 topics in one subscription; 2 is the limit\n"
        assert "retry-after" not in member.client.headers
        assert len(world.channels) == 1

    def test_journal_that_fails(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        A client whose place cannot be found gets its stream, and resumes when the journal is back.
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

    def test_journal_that_fails_as_it_may(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        Where the journal has said what is wrong, the log has nothing more for each client that comes.
        """
        first, _ = scripted.publish("a", "b")
        journal = journal_of(scripted)
        journal.errors["find"] = JournalFailed("x", "is out")
        members = [scripted.join(last_event_id=first) for _ in range(10)]
        scripted.hub._distribution.updates_missed(journal.head)  # type: ignore[union-attr]
        assert failures == []
        journal.errors.clear()
        scripted.reactor.advance(1)
        for member in members:
            member.client.pump()
        assert [member.texts for member in members] == [["b"]] * 10

    def test_journal_that_fails_often(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        What nobody expects is logged a few times, however many clients come.
        """
        first, _ = scripted.publish("a", "b")
        journal_of(scripted).errors["find"] = OSError("no journal")
        resource = scripted.hub.resource("news")
        clients = [scripted.wire.connect(resource) for _ in range(50)]
        for client in clients:
            assert client.request("/", headers={"Last-Event-ID": first}).status == 200
        # Of the resource, and of those that wait for the journal.
        assert 0 < len(failures) <= 10
        failures.clear()
        for client in clients:
            client.disconnect(clean=False)
        scripted.reactor.advance(1)

    def test_rule_that_needs_the_journal(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        Where it is out of reach, the client is asked to come again, and nothing is logged for it.
        """

        def rule(request: object) -> Any:
            raise JournalFailed("x", "is out")

        member = scripted.join(rule)
        assert member.client.status == 503
        assert member.client.headers["retry-after"] == "5"
        assert failures == []


class OtherAnswersTests:
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
        The client gets its answer, and the rule is not asked.
        """
        asked: list[Request] = []
        member = any_world.join(asked.append, method=method, headers=headers)
        assert member.client.status == status
        assert asked == []
        assert any_world.channels == []
        assert any_world.hub.subscribers.total == 0

    def test_head(self, world: World) -> None:
        """
        It gets what a GET would get, so the rule is asked.
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
        OPTIONS tells what is.
        """
        assert world.join(method="OPTIONS").client.headers["allow"] == "GET, HEAD, OPTIONS"

    def test_too_many(self, new_world: Callable[..., World]) -> None:
        """
        One channel too many for a client gets 429, and the rule is not asked.
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

    def test_too_many_in_all(self, new_world: Callable[..., World]) -> None:
        """
        One too many in all gets 503.
        """
        world = new_world(upgrader={"limits": Limits(channels=1, retry_after=30)})
        world.join()
        member = world.join()
        assert member.client.status == 503
        assert member.client.headers["retry-after"] == "30"

    def test_too_many_by_the_time(self, new_world: Callable[..., World], failures: list[LogEvent]) -> None:
        """
        Who waits for the rule while another takes the last place is refused in the end, once.
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


class ClientGoesTests:
    def test_while_the_rule_takes_its_time(self, any_world: World, failures: list[LogEvent]) -> None:
        """
        The rule's work is cancelled, and nothing is opened or logged.
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

    def test_while_a_coroutine_waits(self, world: World) -> None:
        """
        So is a coroutine's.
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

    def test_rule_that_goes_on_all_the_same(self, world: World, failures: list[LogEvent]) -> None:
        """
        What it grants in the end opens nothing.
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

    def test_rule_that_fails_then(self, world: World, failures: list[LogEvent]) -> None:
        """
        What it fails with then interests nobody.
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
    def test_while_the_journal_takes_its_time(
        self, scripted: World, failures: list[LogEvent], name: str
    ) -> None:
        """
        The journal is asked no more for this client, and goes on for the others.
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

    def test_stream_that_was_waited_for(self, world: World) -> None:
        """
        Once it is open, it ends like any other.
        """
        rights: Deferred[str] = Deferred()
        member = world.join(lambda request: rights)
        rights.callback("news")
        assert world.hub.subscribers.total == 1
        reasons = outcome_of(world.channels[0].when_closed())
        member.leave()
        assert reasons == [CloseReason.CLIENT_GONE]
        assert world.hub.subscribers.total == 0

    def test_refused_and_used_again(self, world: World) -> None:
        """
        After a refusal that took its time the connection takes another request.
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
    What an access says of where a stream begins, and when it ends.
    """

    @pytest.mark.parametrize("is_rule", [False, True])
    def test_last_event_id(self, world: World, is_rule: bool) -> None:
        """
        The ID of an access counts before that of the request, and is named in the response.
        """
        first, second = world.publish("a", "b")
        access = Access("news", last_event_id=first)
        member = world.join((lambda request: access) if is_rule else access, last_event_id=second)
        assert member.texts == ["b"]
        assert member.client.headers["last-event-id"] == first

    def test_resumes_from_nothing(self, world: World) -> None:
        """
        An access without an ID begins at the head, whatever the request says; the response names that.
        """
        first, second = world.publish("a", "b")
        member = world.join(Access("news", last_event_id=""), last_event_id=first)
        assert member.texts == []
        assert member.client.headers["last-event-id"] == second

    @pytest.mark.parametrize("id", ["a\nb", "\0", "x" * 1025])
    def test_id_that_cannot_be(self, world: World, id: str) -> None:
        """
        An ID that no event can have, or that is too long, is refused as one in the header is.
        """
        assert world.join(Access("news", last_event_id=id)).client.status == 400

    @pytest.mark.parametrize("is_rule", [False, True])
    def test_expires(self, world: World, is_rule: bool) -> None:
        """
        The hub closes the stream when its access ends.
        """
        access = Access("news", expires=world.reactor.wall() + 60)
        member = world.join((lambda request: access) if is_rule else access)
        world.publish("a")
        world.reactor.advance(59.9)
        assert member.channel.is_open
        world.reactor.advance(0.2)
        world.reactor.run_soon()
        assert member.channel.close_reason is CloseReason.EXPIRED
        assert member.texts == ["a"]
        world.end()

    def test_expires_before_it_begins(self, world: World) -> None:
        """
        An access that has ended opens no stream.
        """
        member = world.join(Access("news", expires=world.reactor.wall()))
        assert member.client.status == 403
        assert b"your access has expired" in member.client.body

    def test_head_of_an_access_that_has_ended(self, world: World) -> None:
        """
        A HEAD is answered as the GET would be.
        """
        access = Access("news", expires=world.reactor.wall())
        assert world.join(lambda request: access, method="HEAD").client.status == 403

    def test_subscription_that_expires(self, world: World) -> None:
        """
        So does a channel that is subscribed without a resource.
        """
        opened = world.open()
        world.hub.subscribe(opened.channel, "news", expires=world.reactor.wall() + 60)
        world.reactor.advance(60.1)
        assert opened.channel.close_reason is CloseReason.EXPIRED
        world.end()

    def test_subscribed(self, plain: Wire) -> None:
        """
        Another HTTP face learns of each subscriber, with the access that it was given.
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
