"""
Who is subscribed to what: told by updates, and listed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from txsse._randomness import new_uuid, randomness_of
from txsse._serialize import to_json
from txsse.hub.hub import Hub
from txsse.journal.update import Update
from txsse.mercure.auth.grants import Grants
from txsse.mercure.selectors.matcher import TEMPLATE, Matcher
from txsse.mercure.settings import Settings
from txsse.protocol.event import ServerSentEvent
from txsse.server.channel import SSEChannel

__all__ = ["EVENT_TYPE", "Subscription", "Subscriptions"]

#: The type of the events that tell of subscriptions.
EVENT_TYPE = "mercure"

_CONTEXT = "https://mercure.rocks/"


@dataclass(frozen=True)
class Subscription:
    """
    That somebody is subscribed to what a matcher selects.

    :ivar topic: the topic that its events have, which is where it can be looked up, too.
    :ivar payload: what its subscriber's token tells of it; ``None`` for nothing.
    """

    topic: str
    matcher: Matcher
    subscriber: str
    payload: object

    def document(self, *, active: bool = True) -> dict[str, object]:
        """
        Describe it.
        """
        told: dict[str, object] = {"id": self.topic}
        if self.matcher.type == TEMPLATE:
            told |= {"@context": _CONTEXT, "type": "Subscription", "topic": self.matcher.value}
        else:
            told |= {"type": "subscription", "match_type": self.matcher.type, "match": self.matcher.value}
        told |= {"subscriber": self.subscriber, "active": active}
        if self.payload is not None:
            told["payload"] = self.payload
        return told

    def event(self, id: str, *, active: bool) -> Update:
        """
        Make the update on its beginning or its end.

        :param id: the ID of the update.
        """
        type = None if self.matcher.type == TEMPLATE else EVENT_TYPE
        told = to_json(self.document(active=active))
        return Update(self.topic, ServerSentEvent(told, type, id), private=True)


class Subscriptions:
    """
    The subscriptions of a hub: those here, and what the other nodes of a cluster show of theirs.

    :param hub: the hub.
    :param settings: what it was told.
    """

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._path = f"{settings.path}/subscriptions"
        self._by_topic: dict[str, Subscription] = {}

    async def documents(self, path: str) -> dict[str, dict[str, object]]:
        """
        Describe those whose topics are a path, or begin with it; by topic.

        :raises JournalFailed: where the other nodes cannot be heard of.
        """
        await self._hub.start()
        elsewhere = [json.loads(text) for text in await self._hub.cluster.metadata(path)]
        found = {document["id"]: document for document in elsewhere}
        for topic, each in self._by_topic.items():
            if topic == path or topic.startswith(f"{path}/"):
                found[topic] = each.document()
        return dict(sorted(found.items()))

    def begin(self, channel: SSEChannel, matchers: Sequence[Matcher], grants: Grants) -> None:
        """
        Take note of a channel's subscriptions, until it ends.
        """
        subscriber = self._new_id()
        begun = [
            Subscription(self.topic_of(matcher, subscriber), matcher, subscriber, grants.payload_for(matcher))
            for matcher in matchers
        ]
        # First, for what fails behind it must not leave anybody listed for ever.
        channel.when_closed().addCallback(lambda _: self._end(begun))
        for each in begun:
            self._by_topic[each.topic] = each
            self._hub.cluster.put_metadata(each.topic, to_json(each.document()))
        self._tell(begun, active=True)

    def topic_of(self, matcher: Matcher, subscriber: str) -> str:
        """
        Return the topic that tells of a subscription.
        """
        named = [] if matcher.type == TEMPLATE else [matcher.type]
        return "/".join([self._path, *(quote(each, safe="") for each in (*named, matcher.value, subscriber))])

    def _end(self, ended: Sequence[Subscription]) -> None:
        known = [each for each in ended if self._by_topic.pop(each.topic, None)]
        for each in known:
            self._hub.cluster.put_metadata(each.topic, None)
        self._tell(known, active=False)

    def _tell(self, told: Sequence[Subscription], *, active: bool) -> None:
        for each in told:
            # The journal, or the hub, has said why it takes no update.
            self._hub.publish_update(
                each.event(self._new_id(), active=active), while_draining=True
            ).addErrback(lambda failure: None)

    def _new_id(self) -> str:
        return new_uuid(randomness_of(self._hub.upgrader.reactor))
