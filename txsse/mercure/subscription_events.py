"""
Keeps the active subscriptions, and publishes an event when one begins or ends.
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

#: The type of subscription events.
EVENT_TYPE = "mercure"

_CONTEXT = "https://mercure.rocks/"


@dataclass(frozen=True)
class Subscription:
    """
    A subscriber's subscription to the topics that one matcher selects.

    :ivar topic: the topic of its events, and its path in the subscription API.
    :ivar payload: the ``payload`` of the subscriber's token for it; ``None`` if the token has none.
    """

    topic: str
    matcher: Matcher
    subscriber: str
    payload: object

    def document(self, *, active: bool = True) -> dict[str, object]:
        """
        Return the subscription as a JSON object, in the format of its dialect of Mercure.
        """
        document: dict[str, object] = {"id": self.topic}
        if self.matcher.type == TEMPLATE:
            document |= {"@context": _CONTEXT, "type": "Subscription", "topic": self.matcher.value}
        else:
            document |= {"type": "subscription", "match_type": self.matcher.type, "match": self.matcher.value}
        document |= {"subscriber": self.subscriber, "active": active}
        if self.payload is not None:
            document["payload"] = self.payload
        return document

    def event(self, id: str, *, active: bool) -> Update:
        """
        Return the update that announces its beginning or its end.

        :param id: the ID of the update.
        """
        type = None if self.matcher.type == TEMPLATE else EVENT_TYPE
        data = to_json(self.document(active=active))
        return Update(self.topic, ServerSentEvent(data, type, id), private=True)


class Subscriptions:
    """
    The active subscriptions of a hub.

    They are those of this node, and those that other nodes publish as node metadata.

    :param hub: the hub.
    :param settings: the hub's settings.
    """

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._path = f"{settings.path}/subscriptions"
        self._by_topic: dict[str, Subscription] = {}

    async def documents(self, path: str) -> dict[str, dict[str, object]]:
        """
        Return the subscriptions at or below a path, as JSON objects by topic.

        :raises JournalFailed: if the metadata of the other nodes cannot be read.
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
        Add the subscriptions of a channel; they are removed when the channel closes.
        """
        subscriber = self._new_id()
        begun = [
            Subscription(self.topic_of(matcher, subscriber), matcher, subscriber, grants.payload_for(matcher))
            for matcher in matchers
        ]
        # The callback comes first: if a later step fails, the subscriptions must not be listed for ever.
        channel.when_closed().addCallback(lambda _: self._end(begun))
        for each in begun:
            self._by_topic[each.topic] = each
            self._hub.cluster.put_metadata(each.topic, to_json(each.document()))
        self._publish(begun, active=True)

    def topic_of(self, matcher: Matcher, subscriber: str) -> str:
        """
        Return the topic of a subscription's events.
        """
        named = [] if matcher.type == TEMPLATE else [matcher.type]
        return "/".join([self._path, *(quote(each, safe="") for each in (*named, matcher.value, subscriber))])

    def _end(self, ended: Sequence[Subscription]) -> None:
        known = [each for each in ended if self._by_topic.pop(each.topic, None)]
        for each in known:
            self._hub.cluster.put_metadata(each.topic, None)
        self._publish(known, active=False)

    def _publish(self, subscriptions: Sequence[Subscription], *, active: bool) -> None:
        for each in subscriptions:
            # The journal or the hub has logged why it does not accept the update.
            self._hub.publish_update(
                each.event(self._new_id(), active=active), while_draining=True
            ).addErrback(lambda failure: None)

    def _new_id(self) -> str:
        return new_uuid(randomness_of(self._hub.upgrader.reactor))
