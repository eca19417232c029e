"""
Notifications of subscribers that connect and disconnect.
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
    Notifies of subscribers.

    :param changed: called with the subscriber and whether it is subscribed now; ``None`` for no call.
    :param topic: the topic of ephemeral events on it, of the type ``presence``; ``None`` for none.
    :param publish: publishes an ephemeral event.
    :raises InvalidField: for a topic that cannot be published to.
    :raises TypeError: for what cannot be called.
    """

    def __init__(
        self,
        changed: Callable[[Subscriber, bool], None] | None,
        topic: str | None,
        publish: Callable[[EphemeralUpdate], None],
    ) -> None:
        if changed is not None and not callable(changed):
            raise wrong_type("presence", changed, "callable with a Subscriber and whether it is there")
        if topic is not None:
            # A topic that cannot be published to is better refused here.
            EphemeralUpdate(topic, ServerSentEvent())
        self._changed = changed
        self._topic = topic
        self._publish = publish
        self._failures = RateLimitedLog(_log)

    def notify(self, subscriber: Subscriber, present: bool, count: int) -> None:
        """
        Notify of a new subscriber, or of one that has gone.

        :param count: how many there are now.
        """
        # First: the callback may add and remove others, which are notified of meanwhile.
        if self._topic is not None:
            self._publish_change(self._topic, subscriber, present, count)
        if self._changed is not None:
            try:
                self._changed(subscriber, present)
            except Exception:
                # A subscriber does not depend on those that are notified of it.
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
            # The channels of a hub that stops all end.
            return
        except Exception:
            self._failures.failure("presence cannot be published")
