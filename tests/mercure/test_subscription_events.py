"""
The subscription API and subscription events of a Mercure hub: what they disclose of each subscription, to
which tokens, and across the nodes of a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent

from tests.hub.fakes import result_of
from tests.mercure.world import PATH, URL, MercureWorld, Reader, detail, old_token, token
from txsse import Hub, HubStopped, JournalFailed, MemoryJournal, Update
from txsse.journal.cluster import NoCluster
from txsse.journal.position import OLDEST

ALL = f"{PATH}/subscriptions"
EVENTS = {"match": f"{ALL}/:type/:match/:subscriber", "match_type": "urlpattern"}


NEWS = detail(["subscribe"], "news", payload={"a": 1})
ALL_TOPICS = detail(["subscribe"], "*", payload={"b": 2})


def subscription_events(reader: Reader) -> list[dict[str, Any]]:
    """
    Return the subscription events that a reader received.
    """
    return [json.loads(event.data) for event in reader.events if event.event == "mercure"]


def list_subscriptions(world: MercureWorld) -> list[Any]:
    """
    Return the subscriptions that the subscription API lists.
    """
    client = world.ask(path=ALL, token=token(subscribe=[ALL]))
    found: list[Any] = json.loads(client.body)["subscriptions"]
    return found


@pytest.fixture
def watcher(world: MercureWorld) -> Reader:
    """
    Return a subscriber that receives all subscription events, including those of its own subscription.
    """
    reader = world.subscribe(patterns=[EVENTS["match"]], token=token(subscribe=[EVENTS]))
    assert [each["active"] for each in subscription_events(reader)] == [True]
    return reader


class EventTests:
    def test_begun_and_ended(self, world: MercureWorld, watcher: Reader) -> None:
        """
        An authorised client receives an event when a subscription begins and another when it ends.
        """
        watched = world.subscribe("https://a.example/1?x=%20", patterns=["/books/:id"])
        begun = subscription_events(watcher)[1:]
        assert [(each["match_type"], each["match"], each["active"]) for each in begun] == [
            ("exact", "https://a.example/1?x=%20", True),
            ("urlpattern", "/books/:id", True),
        ]
        assert begun[0]["subscriber"] == begun[1]["subscriber"]
        assert begun[0]["subscriber"].startswith("urn:uuid:")
        watched.disconnect()
        ended = subscription_events(watcher)[3:]
        assert ended == [{**each, "active": False} for each in begun]

    def test_event_fails(
        self, world: MercureWorld, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
    ) -> None:
        """
        A subscription is removed from the list when its stream ends, even if its event could not be sent.
        """
        put_metadata = world.hub.cluster.put_metadata

        def fail_once(name: str, text: str | None) -> None:
            monkeypatch.setattr(world.hub.cluster, "put_metadata", put_metadata)
            raise RuntimeError

        monkeypatch.setattr(world.hub.cluster, "put_metadata", fail_once)
        reader = world.subscribe("a", "b")
        reader.disconnect()
        assert list_subscriptions(world) == []

    def test_topic(self, world: MercureWorld, watcher: Reader) -> None:
        """
        A subscription event's topic is the path of its type, matcher and subscriber, each percent-encoded
        once as a whole.
        """
        world.subscribe("https://a.example/1?x=%20")
        (event,) = watcher.events[1:]
        document = json.loads(event.data)
        subscriber = quote(document["subscriber"], safe="")
        assert document == {
            "id": f"{ALL}/exact/https%3A%2F%2Fa.example%2F1%3Fx%3D%2520/{subscriber}",
            "type": "subscription",
            "match_type": "exact",
            "match": "https://a.example/1?x=%20",
            "subscriber": document["subscriber"],
            "active": True,
        }
        assert event.id is not None and event.id.startswith("urn:uuid:")

    def test_private(self, world: MercureWorld) -> None:
        """
        A client without a grant for them receives no subscription event, live or replayed, whatever it
        subscribes to.
        """
        anonymous = world.subscribe("*", patterns=[EVENTS["match"]])
        other = world.subscribe("*", token=token(subscribe=["news"]))
        world.subscribe("news").disconnect()
        later = world.subscribe("*", more=[("last_event_id", "earliest")])
        assert (
            subscription_events(anonymous) == subscription_events(other) == subscription_events(later) == []
        )

    def test_subscriber_ids(self, world: MercureWorld, watcher: Reader) -> None:
        """
        Two streams with the same token are two subscribers, and a client cannot choose its subscriber id.
        """
        same = token(subscribe=["news"], sub="me")
        for _ in range(2):
            world.subscribe("news", token=same, more=[("subscriber", "me")])
        names = [each["subscriber"] for each in subscription_events(watcher)]
        assert len(set(names)) == 3 and "me" not in names

    @pytest.mark.parametrize(
        ("details", "payloads"),
        [
            ([detail(["subscribe"], "news", payload={"a": 1})], [{"a": 1}, None]),
            ([detail(["subscribe"], "*", payload={"a": 1})], [{"a": 1}, {"a": 1}]),
            (
                [
                    detail(["subscribe"], "news", payload={"a": 1}),
                    detail(["subscribe"], "*", payload={"b": 2}),
                ],
                [{"a": 1}, {"b": 2}],
            ),
            (
                [
                    detail(["subscribe"], "*", payload={"b": 2}),
                    detail(["subscribe"], "news", payload={"a": 1}),
                ],
                [{"b": 2}, {"b": 2}],
            ),
            ([detail(["publish"], "*", payload={"a": 1})], [None, None]),
            (
                [
                    detail(
                        ["subscribe"],
                        {"match": "/books/:id", "match_type": "urlpattern"},
                        payload={"a": 1},
                    )
                ],
                [None, {"a": 1}],
            ),
        ],
    )
    def test_payload(
        self, world: MercureWorld, watcher: Reader, details: list[Any], payloads: list[Any]
    ) -> None:
        """
        A subscription event has the payload of the token's first detail that grants the subscription.
        """
        world.subscribe("news", patterns=["/books/:id"], token=token(authorization_details=details))
        assert [each.get("payload") for each in subscription_events(watcher)[1:]] == payloads

    def test_disabled(self, new: Callable[..., MercureWorld]) -> None:
        """
        With the subscription API disabled there are no subscription events and no list.
        """
        world = new(anonymous=True, subscriptions=False)
        everything = world.subscribe("*", token=token(subscribe=["*"]))
        world.subscribe("news")
        assert everything.events == []
        assert world.ask(path=ALL, token=token(subscribe=["*"])).status == 404

    def test_hub_stops(self, world: MercureWorld) -> None:
        """
        A stopping hub records the end of all its subscriptions, for resuming clients and for other nodes.
        """
        world.subscribe("a")
        world.subscribe("b")
        journal = world.hub._distribution.journal  # type: ignore[union-attr]
        result_of(world.hub.stop())
        page = result_of(journal.read(OLDEST))
        recorded = [json.loads(update.event.data) for _, update in page.entries]
        assert [(each["match"], each["active"]) for each in recorded] == [
            ("a", True),
            ("b", True),
            ("a", False),
            ("b", False),
        ]
        assert all(update.private for _, update in page.entries)

    @pytest.mark.parametrize("error", [JournalFailed("x", "is unavailable"), HubStopped()])
    def test_journal_fails(
        self, new: Callable[..., MercureWorld], plain: Any, failures: list[Any], error: Exception
    ) -> None:
        """
        A client's subscription does not fail if the journal cannot record the subscription event.
        """
        from tests.hub.fakes import ScriptedJournal

        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), anonymous=True)
        journal.errors["append"] = error
        assert world.subscribe("news").status == 200
        assert failures == []
        journal.errors["append"] = RuntimeError("unexpected")
        assert world.subscribe("news").status == 200
        assert [event["log_failure"].type for event in failures] == [RuntimeError]


class ListTests:
    def ask(self, world: MercureWorld, path: str = ALL, **options: Any) -> dict[str, Any]:
        client = world.ask(path=path, token=token(subscribe=["*"]), **options)
        assert client.status == 200
        assert client.headers["content-type"] == "application/json"
        document: dict[str, Any] = json.loads(client.body)
        return document

    def test_all(self, world: MercureWorld) -> None:
        """
        The subscription API lists all active subscriptions, in the form of their events.
        """
        assert self.ask(world) == {"id": ALL, "type": "subscriptions", "subscriptions": []}
        world.subscribe("a", "b")
        ended = world.subscribe("c")
        ended.disconnect()
        listed = self.ask(world)["subscriptions"]
        assert [each["match"] for each in listed] == ["a", "b"]
        assert all(each["active"] for each in listed)

    def test_of_a_matcher(self, world: MercureWorld) -> None:
        """
        The subscription API lists the subscriptions with one matcher, and returns an empty list if that has
        no subscription.
        """
        for _ in range(2):
            world.subscribe("a/b", "other")
        path = f"{ALL}/exact/a%2Fb"
        document = self.ask(world, path)
        assert document["id"] == path
        assert [each["match"] for each in document["subscriptions"]] == ["a/b"] * 2
        assert self.ask(world, f"{ALL}/urlpattern/a%2Fb")["subscriptions"] == []
        assert self.ask(world, f"{ALL}/exact/a")["subscriptions"] == []

    def test_one(self, world: MercureWorld) -> None:
        """
        The subscription API returns a single subscription at its id, and 404 after it has ended.
        """
        reader = world.subscribe("a")
        (listed,) = self.ask(world)["subscriptions"]
        assert self.ask(world, listed["id"]) == listed
        reader.disconnect()
        assert world.ask(path=listed["id"], token=token(subscribe=["*"])).status == 404

    @pytest.mark.parametrize("path", [f"{ALL}/exact", f"{ALL}/regex/a", f"{ALL}/exact/a/b", f"{ALL}/a/b/c/d"])
    def test_other_paths(self, world: MercureWorld, path: str) -> None:
        """
        Other paths of the subscription API get 404.
        """
        world.subscribe("a")
        assert world.ask(path=path, token=token(subscribe=["*"])).status == 404

    @pytest.mark.parametrize(
        ("granted", "path", "status"),
        [
            ([ALL], ALL, 200),
            ([ALL], f"{ALL}/exact/a", 403),
            ([f"{ALL}/exact/a"], f"{ALL}/exact/a", 200),
            ([f"{ALL}/exact/a"], ALL, 403),
            ([{"match": f"{ALL}/*", "match_type": "urlpattern"}], f"{ALL}/exact/a", 200),
            ([{"match": f"{URL}/subscriptions", "match_type": "urlpattern"}], ALL, 200),
            ([f"{URL}/subscriptions"], ALL, 403),
            (["news"], ALL, 403),
            ([], ALL, 403),
        ],
    )
    def test_allowed(self, world: MercureWorld, granted: list[Any], path: str, status: int) -> None:
        """
        A list of subscriptions is returned only to a token that grants the list's topic.
        """
        client = world.ask(path=path, token=token(subscribe=granted))
        assert client.status == status
        if status == 403:
            assert 'error="insufficient_scope"' in client.headers["www-authenticate"]

    def test_no_token(self, world: MercureWorld) -> None:
        """
        A list of subscriptions requires a token even where anonymous subscribers are permitted, and the query
        is not part of the list's topic.
        """
        assert world.ask(path=ALL).status == 401
        assert world.ask(path=ALL, token="x").status == 401
        assert world.ask(path=ALL, token=token(publish=["*"])).status == 403
        assert world.ask(path=ALL, query=[("a", "b")], token=token(subscribe=[ALL])).status == 200

    def test_methods(self, world: MercureWorld) -> None:
        """
        A list of subscriptions permits only the methods GET, HEAD and OPTIONS.
        """
        access = token(subscribe=["*"])
        head = world.ask("HEAD", path=ALL, token=access)
        assert (head.status, head.body) == (200, b"")
        client = world.ask("DELETE", path=ALL, token=access)
        assert (client.status, client.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert world.ask("OPTIONS", path=ALL).status == 204

    def test_cursor(self, world: MercureWorld) -> None:
        """
        The Link header of a list of subscriptions has the last event id with which a client receives the
        events after the list.
        """
        access = token(subscribe=["*"])
        assert 'last-event-id="#' in world.ask(path=ALL, token=access).headers["link"]
        world.subscribe("a")
        link = world.ask(path=ALL, token=access).headers["link"]
        assert link.startswith(f'<{URL}>; rel="mercure"; last-event-id="#')
        assert link.endswith('; type="mercure"; content-type="application/json"')
        cursor = link.split('"')[3]
        world.subscribe("b")
        later = world.subscribe(patterns=[EVENTS["match"]], token=access, more=[("last_event_id", cursor)])
        assert [each["match"] for each in subscription_events(later)] == ["b", EVENTS["match"]]

    def test_cursor_discloses_nothing(self, world: MercureWorld) -> None:
        """
        The last event id in a list's Link header names a public update, but never a private one.
        """
        access = token(subscribe=[ALL, EVENTS])
        world.publish("secret", "x", id="patient-4711", private="on")
        link = world.ask(path=ALL, token=access).headers["link"]
        assert "4711" not in link
        cursor = link.split('"')[3]
        world.subscribe("a")
        reader = world.subscribe(patterns=[EVENTS["match"]], token=access, more=[("last_event_id", cursor)])
        assert [each["match"] for each in subscription_events(reader)] == ["a", EVENTS["match"]]
        world.publish("news", "x", id="known-to-all")
        assert 'last-event-id="known-to-all"' in world.ask(path=ALL, token=access).headers["link"]

    def test_unchanged(self, world: MercureWorld) -> None:
        """
        A client that has the current list of subscriptions gets 304.
        """
        world.subscribe("a")
        access = token(subscribe=["*"])
        first = world.ask(path=ALL, token=access)
        assert first.headers["cache-control"] == "private, must-revalidate"
        known = {"If-None-Match": first.headers["etag"]}
        again = world.ask(path=ALL, token=access, headers=known)
        assert (again.status, again.body) == (304, b"")
        world.subscribe("b")
        assert world.ask(path=ALL, token=access, headers=known).status == 200

    def test_cors(self, new: Callable[..., MercureWorld]) -> None:
        """
        Pages of the listed origins may read the list of subscriptions and its Link header.
        """
        world = new(origins=["https://app.example"])
        client = world.ask(path=ALL, token=token(subscribe=["*"]), headers={"Origin": "https://app.example"})
        assert client.headers["access-control-allow-origin"] == "https://app.example"
        assert "Link" in client.headers["access-control-expose-headers"]

    def test_journal_fails(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        A list of subscriptions gets 503 while the journal fails, because its Link header needs the journal's
        head.
        """
        from tests.hub.fakes import ScriptedJournal

        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor))
        journal.errors["start"] = JournalFailed("x", "is unavailable")
        assert world.ask(path=ALL, token=token(subscribe=["*"])).status == 503


class ClusterWithOthers(NoCluster):
    """
    A cluster with other nodes.

    :ivar shown: the metadata of this node, by name.
    :ivar theirs: the metadata of the other nodes, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, str] = {}
        self.theirs: dict[str, str] = {}

    def put_metadata(self, name: str, text: str | None) -> None:
        if text is None:
            del self.shown[name]
        else:
            self.shown[name] = text

    def metadata(self, name: str) -> Deferred[list[str]]:
        below = f"{name}/"
        return succeed([text for key, text in self.theirs.items() if key == name or key.startswith(below)])


class NodeJournal(MemoryJournal):
    """
    The journal of a node in a cluster.

    :ivar appended: the names of the node's metadata at each append.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cluster = ClusterWithOthers()
        self.appended: list[list[str]] = []

    def append(self, update: Update) -> Deferred[int]:
        self.appended.append(list(self.cluster.shown))
        return super().append(update)


class ClusterTests:
    @pytest.fixture
    def journal(self, plain: Any) -> NodeJournal:
        return NodeJournal(reactor=plain.reactor)

    @pytest.fixture
    def node(self, new: Callable[..., MercureWorld], plain: Any, journal: NodeJournal) -> MercureWorld:
        """
        Return a node of a cluster.
        """
        return new(hub=Hub(journal=journal, reactor=plain.reactor), anonymous=True)

    def ask(self, node: MercureWorld, path: str = ALL) -> Any:
        client = node.ask(path=path, token=token(subscribe=["*"]))
        return json.loads(client.body) if client.status == 200 else client.status

    def test_shown(self, node: MercureWorld, journal: NodeJournal) -> None:
        """
        A node publishes a subscription's metadata before its event when it begins, and removes the metadata
        before the event when it ends.
        """
        reader = node.subscribe("a", "b")
        listed = self.ask(node)["subscriptions"]
        assert [json.loads(journal.cluster.shown[each["id"]]) for each in listed] == listed
        assert len(journal.cluster.shown) == 2
        reader.disconnect()
        assert journal.cluster.shown == {}
        assert list(map(len, journal.appended)) == [2, 2, 0, 0]

    def test_other_nodes(
        self, node: MercureWorld, journal: NodeJournal, new: Callable[..., MercureWorld], plain: Any
    ) -> None:
        """
        Every node lists the subscriptions of all nodes in the same order, and returns each by matcher and by
        id.
        """
        other_journal = NodeJournal(reactor=plain.reactor)
        other = new(hub=Hub(journal=other_journal, reactor=plain.reactor), anonymous=True)
        node.subscribe("a", "c")
        other.subscribe("b", "c")
        journal.cluster.theirs, other_journal.cluster.theirs = (
            other_journal.cluster.shown,
            journal.cluster.shown,
        )
        listed = self.ask(node)
        assert [each["match"] for each in listed["subscriptions"]] == ["a", "b", "c", "c"]
        assert self.ask(other) == listed
        for each in listed["subscriptions"]:
            assert self.ask(node, each["id"]) == self.ask(other, each["id"]) == each
        assert len(self.ask(node, f"{ALL}/exact/c")["subscriptions"]) == 2
        assert len(self.ask(node, f"{ALL}/exact/b")["subscriptions"]) == 1
        assert self.ask(node, f"{ALL}/exact/b/nobody") == 404

    def test_disconnect(
        self,
        node: MercureWorld,
        journal: NodeJournal,
        monkeypatch: pytest.MonkeyPatch,
        failures: list[LogEvent],
    ) -> None:
        """
        A node writes nothing to a client that disconnects while the node requests the other nodes' metadata.
        """
        known = node.ask(path=ALL, token=token(subscribe=["*"])).headers["etag"]
        answer: Deferred[list[str]] = Deferred()
        monkeypatch.setattr(journal.cluster, "metadata", lambda name: answer)
        client = node.ask(path=ALL, token=token(subscribe=["*"]), headers={"If-None-Match": known})
        client.disconnect(clean=False)
        answer.callback([])
        assert (client.status, client.body) == (0, b"")
        assert failures == []

    def test_no_metadata(self, new: Callable[..., MercureWorld], plain: Any) -> None:
        """
        A node answers a list of subscriptions with 503 if the other nodes' metadata are unavailable, because
        the list would be incomplete.
        """
        from tests.hub.fakes import ScriptedJournal

        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor))
        journal.errors["metadata"] = JournalFailed("x", "is unavailable")
        assert self.ask(world) == 503


class CompatibilityTests:
    def test_no_types(self, new: Callable[..., MercureWorld]) -> None:
        """
        In compatibility mode a topic that is called "exact" does not disclose the subscriptions with an exact
        matcher.
        """
        world = new(compatibility=True)
        grant = {"match": f"{ALL}/:x", "match_type": "urlpattern"}
        world.subscribe("secret", token=token(subscribe=["*"]))
        world.subscribe(token=token(subscribe=["*"]), more=[("topic", "exact")])
        world.subscribe(token=token(subscribe=["*"]), more=[("topic", "exact/a")])
        listed = json.loads(world.ask(path=f"{ALL}/exact", token=token(subscribe=[grant])).body)
        assert [each["topic"] for each in listed["subscriptions"]] == ["exact"]
        assert world.ask(path=f"{ALL}/exact/secret", token=token(subscribe=[grant])).status == 403

    def test_old_form(self, new: Callable[..., MercureWorld]) -> None:
        """
        In compatibility mode a subscription by "topic" has events and list entries in the form before Mercure
        1.0.
        """
        world = new(compatibility=True)
        access = old_token(subscribe=["*"], payload={"user": "me"})
        watcher = world.subscribe(token=access, more=[("topic", f"{ALL}{{/topic}}{{/subscriber}}")])
        watched = world.subscribe(token=access, more=[("topic", "https://a.example/{id}")])
        event = watcher.events[-1]
        document = json.loads(event.data)
        subscriber = document["subscriber"]
        assert event.event == "message"
        assert document == {
            "@context": "https://mercure.rocks/",
            "id": f"{ALL}/https%3A%2F%2Fa.example%2F%7Bid%7D/{quote(subscriber, safe='')}",
            "type": "Subscription",
            "topic": "https://a.example/{id}",
            "subscriber": subscriber,
            "active": True,
            "payload": {"user": "me"},
        }
        one = world.ask(path=document["id"], token=access)
        assert json.loads(one.body) == document
        of_topic = world.ask(path=document["id"].rpartition("/")[0], token=access)
        assert json.loads(of_topic.body)["subscriptions"] == [document]
        assert world.ask(path=f"{ALL}/nothing", token=access).status == 200
        watched.disconnect()
        assert json.loads(watcher.events[-1].data) == {**document, "active": False}
