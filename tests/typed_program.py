"""
A user's program that uses the public types. It is not run: tests/test_typing.py has type checkers check it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.web.client import Agent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txsse import (
    Access,
    EventSource,
    EventStreamParser,
    EventTooLarge,
    Hub,
    HubService,
    Limits,
    MemoryJournal,
    OverflowPolicy,
    ServerSentEvent,
    SnapshotRequest,
    SSEChannel,
    SSEResource,
    Subscriber,
    TopicPattern,
    Update,
    Upgrader,
    UpgradeRefused,
    broadcast,
    upgrade,
)
from txsse.hub.request_admission import RequestAdmission
from txsse.journal.base import check_batch
from txsse.journal.cluster import IClusterListener, NoCluster
from txsse.journal.interfaces import IFollower
from txsse.journal.page import Entry, Page
from txsse.journal.redis import RedisJournal
from txsse.journal.sqlite import SQLiteJournal
from txsse.mercure import RemoteKeys, Settings, put_hub, shared_secret
from txsse.server.buffer import FrameBuffer
from txsse.testing import MemoryAgent, MemoryPair, ScriptedResource
from txsse.testing.journal_contract import CHECKS, JournalFactory
from txsse.web import BoundedSite

clock = Clock()


class Prefix:
    """
    A selector of the user's own.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def matches(self, topic: str) -> bool:
        return topic.startswith(self.prefix)


class Cluster:
    """
    A cluster of the user's own.
    """

    def start(self, listener: IClusterListener) -> Deferred[None]:
        listener.message_received("hello")
        return succeed(None)

    def count_subscribers(self, topic: str) -> Deferred[int]:
        return succeed(0)

    def put_metadata(self, name: str, text: str | None) -> None: ...

    def metadata(self, name: str) -> Deferred[list[str]]:
        return succeed([])

    def broadcast(self, message: str, *, deadline: float = 1.0) -> Deferred[list[str]]:
        return succeed([])

    def stop(self) -> Deferred[None]:
        return succeed(None)


class Journal:
    """
    A journal of the user's own.
    """

    problem: Exception | None = None
    damaged = 0

    def __init__(self) -> None:
        self.head = 0
        self._entries: list[Entry] = []

    def start(self, follower: IFollower) -> Deferred[None]:
        self._follower = follower
        return succeed(None)

    def append(self, update: Update) -> Deferred[int]:
        self.head += 1
        self._entries.append((self.head, update))
        self._follower.update_appended((self.head, update))
        return succeed(self.head)

    def append_many(self, updates: Sequence[Update]) -> Deferred[list[int]]:
        check_batch(updates)
        for update in updates:
            self.append(update)
        return succeed([position for position, _ in self._entries[-len(updates) :]])

    def find(self, id: str) -> Deferred[int | None]:
        return succeed(next((position for position, update in self._entries if update.id == id), None))

    def at(self, position: int) -> Deferred[Update | None]:
        return succeed(dict(self._entries).get(position))

    def read(self, after: int) -> Deferred[Page]:
        return succeed(Page([entry for entry in self._entries if entry[0] > after], self.head, missed=False))

    def resume_id(self, position: int) -> str:
        return f"#{position}"

    def stop(self) -> Deferred[None]:
        return succeed(None)


class DropOldestPolicy(OverflowPolicy):
    """
    An overflow policy of the user's own.
    """

    name = "drop-oldest"

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        while len(buffer) and not buffer.has_room(size):
            buffer.drop_oldest()
        return True


class EventsFace(Resource):
    """
    An HTTP face of the user's own.
    """

    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        Resource.__init__(self)
        self._requests = RequestAdmission(
            hub.admission, self._find_access, hub.upgrader, subscribed=self._note
        )
        self.served = 0

    def render(self, request: Request) -> int:
        return self._requests.render(request)

    def _find_access(self, request: Request) -> Access:
        topic = request.path.decode().removeprefix("/events/")
        if not topic:
            raise UpgradeRefused("name a topic: /events/news", status=400)
        return Access(topic)

    def _note(self, subscriber: Subscriber, access: Access) -> None:
        self.served += 1


class Factory(JournalFactory):
    """
    The user's journals, for the contract.
    """

    def __call__(self, **bounds: int) -> MemoryJournal:
        return MemoryJournal(reactor=clock, **bounds)


async def do_everywhere() -> None:
    hub.cluster.put_metadata("a", "b")
    await hub.cluster.broadcast("do it", deadline=5.0)
    id: str = await hub.resume_id()
    texts: list[str] = await hub.cluster.metadata(id)
    assert not texts


async def check_journals() -> None:
    for check in CHECKS:
        await check(Factory())


def topics(request: Request) -> str:
    return request.uri.decode()


def selectors(request: Request) -> list[Prefix]:
    return [Prefix("a"), Prefix("b")]


def access(request: Request) -> Access:
    return Access("a", private=["b", Prefix("c"), TopicPattern("d/*")])


def pattern(request: Request) -> TopicPattern:
    return TopicPattern(f"{request.uri.decode()}/**")


def send_to_all(channels: dict[SSEChannel, str], text: str) -> int:
    later: set[SSEChannel] = set(channels)
    return broadcast(channels, text) + broadcast(later, ServerSentEvent.parse(text)) + broadcast([], b"bytes")


async def topics_later(request: Request) -> list[str]:
    return ["a"]


async def access_later(request: Request) -> Access:
    return Access("a")


def topics_deferred(request: Request) -> Deferred[str]:
    return succeed("a")


def access_deferred(request: Request) -> Deferred[Access]:
    return succeed(Access("a"))


def user(request: Request) -> Hashable:
    return request.uri


async def note(topic: str, key: Hashable, present: bool) -> None:
    await hub.presence(topic)


def fetch(topic: str) -> Deferred[None]:
    return succeed(None)


hub = Hub(journal=MemoryJournal(), reactor=clock)
Hub(cluster=NoCluster(reactor=clock))
Hub(journal=RedisJournal("redis://localhost"), cluster=Cluster())
Hub(journal=MemoryJournal(reactor=clock), upgrader=Upgrader(reactor=clock))
Hub(journal=SQLiteJournal("news.db", reactor=clock))
Hub(journal=Journal(), on_presence=note, presence_topic=lambda topic: f"{topic}/presence", presence_grace=5)
Hub(presence_topic="presence", on_topic_opened=fetch, on_topic_closed=print, topic_grace=0.5)
Hub(upgrader=Upgrader(slow_policy=DropOldestPolicy()))
Hub(upgrader=Upgrader(slow_policy="latest"))
EventsFace(hub)
settings = Settings(url="https://localhost/hub", issuers=[shared_secret("secret")])
put_hub(Resource(), hub, settings, keepalive=5.0, slow_policy=DropOldestPolicy())
Hub(journal=RedisJournal("redis://localhost", reactor=clock))
hub.resource("news")
hub.resource(["news", Prefix("sport/")])
hub.resource(topics)
hub.resource(selectors)
hub.resource(access)
hub.resource(pattern)
hub.resource(TopicPattern("a/*"))
hub.resource(["news", TopicPattern("a/**"), Prefix("b")])
hub.resource(topics_later)
hub.resource(access_later)
hub.resource(topics_deferred)
hub.resource(access_deferred)
resource = hub.resource(lambda request: "news")


def snapshot_list(request: SnapshotRequest) -> list[ServerSentEvent]:
    return [ServerSentEvent(f"{topic} {request.key} {request.resume_id}") for topic in request.topics]


def snapshot_texts(request: SnapshotRequest) -> Iterable[str]:
    yield request.request.uri.decode()


def snapshot_deferred(request: SnapshotRequest) -> Deferred[list[ServerSentEvent]]:
    return succeed(snapshot_list(request))


def snapshot_deferred_texts(request: SnapshotRequest) -> Deferred[list[str]]:
    return succeed(["a"])


async def snapshot_later(request: SnapshotRequest) -> list[str | ServerSentEvent]:
    return ["a", ServerSentEvent("b")]


async def snapshot_iterated(request: SnapshotRequest) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent("a")


hub.resource("news", snapshot=snapshot_list)
hub.resource("news", snapshot=snapshot_texts)
hub.resource("news", snapshot=snapshot_deferred)
hub.resource("news", snapshot=snapshot_deferred_texts)
hub.resource("news", snapshot=snapshot_later)
hub.resource("news", snapshot=snapshot_iterated, max_snapshots=5, snapshot_timeout=1.5)
retained_id: Deferred[str] = hub.publish("news", "a", retain="key", retain_for=60)
removed_id: Deferred[str] = hub.unretain(["news", "sport"], "key", private=True)
Upgrader(limits=Limits(per_key=1, key=user))


async def count(channel: SSEChannel) -> None:
    channel.send("a", id="1")
    await channel.drain()


class News(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> int:
        channel = upgrade(request)
        channel.send("a")
        hub.subscribe(channel, "a", private=Prefix("b"))
        return NOT_DONE_YET


def parse(data: bytes) -> list[ServerSentEvent]:
    try:
        return EventStreamParser().feed(data)
    except EventTooLarge as error:
        return error.events


async def follow(source: EventSource) -> list[ServerSentEvent]:
    return [event async for event in source]


site = Site(SSEResource(count))
bounded = BoundedSite(Resource(), reactor=clock)
HubService(hub, bounded, "tcp:8080", farewell=ServerSentEvent("back soon"), shutdown_timeout=5)
HubService(hub, bounded, ["tcp:8080", "unix:/run/news"], on_listening=print)
HubService(hub, bounded, TCP4ServerEndpoint(clock, 80))
HubService(hub, bounded, [TCP4ServerEndpoint(clock, 80), "tcp:81"])
agent = MemoryAgent(resource, clock)
source = EventSource("http://localhost/", agent=agent, reactor=clock)
EventSource("http://localhost/", agent=Agent(clock))
pair = MemoryPair(SSEResource(count, upgrader=Upgrader(reactor=clock)), clock=clock, read_timeout=5)
MemoryAgent(ScriptedResource([], reactor=clock), clock)
RemoteKeys("https://localhost/", reactor=clock, agent=agent)
