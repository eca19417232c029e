"""
Presence: notifications of subscriptions that begin and end.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from txsse._arguments import wrong_type
from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_json
from txsse.errors import HubStopped
from txsse.hub.subscriber import Subscriber
from txsse.journal.update import EphemeralUpdate
from txsse.protocol.event import ServerSentEvent

__all__ = ["Presence"]

_log = Logger()


class Presence:
    """
    Notifies a callback and a topic of each subscriber.

    :param changed: called with the subscriber and whether it is subscribed now; ``None`` for no call.
    :param topic: the topic of an ephemeral event of the type ``presence`` for each change; ``None`` for none.
    :param publish: publishes an ephemeral event.
    :raises InvalidField: for a topic that cannot be published to.
    :raises TypeError: if ``changed`` is not callable.
    """

    def __init__(
        self,
        changed: Callable[[Subscriber, bool], None] | None,
        topic: str | None,
        publish: Callable[[EphemeralUpdate], None],
    ) -> None:
        if changed is not None and not callable(changed):
            raise wrong_type(
                "presence", changed, "a callable that takes a Subscriber and whether it is subscribed"
            )
        if topic is not None:
            # Refuse a topic that cannot be published to now, not when the first client connects.
            EphemeralUpdate(topic, ServerSentEvent())
        self._changed = changed
        self._topic = topic
        self._publish = publish
        self._failures = RateLimitedLog(_log)

    def notify(self, subscriber: Subscriber, present: bool, count: int) -> None:
        """
        Notify of a subscription that has begun or ended.

        :param count: how many subscribers the hub has now.
        """
        # Before the callback, which may subscribe other channels: their notifications would come first.
        if self._topic is not None:
            self._publish_change(self._topic, subscriber, present, count)
        if self._changed is not None:
            try:
                self._changed(subscriber, present)
            except Exception:
                # A failing callback must not affect the subscriber.
                self._failures.failure("the presence callback failed for {subscriber}", subscriber=subscriber)

    def _publish_change(self, topic: str, subscriber: Subscriber, present: bool, count: int) -> None:
        change = {
            "subscriber": subscriber.id,
            "topics": [str(topic) for topic in subscriber.topics],
            "present": present,
            "subscribers": count,
        }
        try:
            self._publish(EphemeralUpdate(topic, ServerSentEvent(to_json(change), "presence")))
        except HubStopped:
            # A hub that stops closes all channels, and publishes nothing.
            return
        except Exception:
            self._failures.failure("presence cannot be published")
