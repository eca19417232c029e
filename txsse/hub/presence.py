"""
Who listens, and who comes and goes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_json
from txsse.hub.subscriber import Subscriber

__all__ = ["Presence"]

_log = Logger()


class Presence:
    """
    Tells of subscribers that come and go.

    :param changed: called with the subscriber and whether it is there now; ``None`` for nobody to be told.
    :param topic: which topic is told of it too, by an event of the type ``presence``; ``None`` for none.
    :param tell: tells a topic a text, as an event of such a type.
    """

    def __init__(
        self,
        changed: Callable[[Subscriber, bool], None] | None,
        topic: str | None,
        tell: Callable[[str, str, str], None],
    ) -> None:
        self._changed = changed
        self._topic = topic
        self._tell = tell
        self._failures = RateLimitedLog(_log)

    def tell(self, subscriber: Subscriber, present: bool, count: int) -> None:
        """
        Tell that a subscriber came or went.

        :param count: how many there are now.
        """
        # First, for who is called may have others come and go, and they are told of then.
        if self._topic is not None:
            told = {
                "subscriber": subscriber.id,
                "topics": [str(topic) for topic in subscriber.topics],
                "present": present,
                "subscribers": count,
            }
            self._tell(self._topic, to_json(told), "presence")
        if self._changed is not None:
            try:
                self._changed(subscriber, present)
            except Exception:
                # A subscriber does not depend on who is told of it.
                self._failures.failure("telling of {subscriber} failed", subscriber=subscriber)
