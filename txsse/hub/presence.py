"""
Presence: notifications of keys that appear and disappear.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.logger import Logger

from txsse._arguments import wrong_type
from txsse._serialize import to_json
from txsse.hub.callbacks import Callbacks
from txsse.journal.update import EphemeralUpdate
from txsse.protocol.event import ServerSentEvent

__all__ = ["OnPresence", "Presence", "PresenceTopic"]

#: Called with a topic, a key, and whether it is present now. It may return an awaitable.
OnPresence = Callable[[str, Hashable, bool], object]

#: The topic of the events about the keys of a topic; ``None`` for none.
PresenceTopic = str | Callable[[str], str | None]

_log = Logger()


class Presence:
    """
    Notifies a callback and a topic of each key.

    :param on_presence: the callback; ``None`` for none.
    :param presence_topic: the topic of an event for each change, or a callable that returns it for the topic
        of the streams; ``None`` for no events.
    :param publish: publishes an update; its failures are its own affair.
    :param callbacks: calls the callback.
    :raises InvalidField: for a topic that cannot be published to.
    :raises TypeError: for arguments of another type.
    """

    def __init__(
        self,
        on_presence: OnPresence | None,
        presence_topic: PresenceTopic | None,
        publish: Callable[[str, ServerSentEvent], None],
        callbacks: Callbacks,
    ) -> None:
        if on_presence is not None and not callable(on_presence):
            raise wrong_type(
                "on_presence", on_presence, "a callable that takes a topic, a key, and whether it is present"
            )
        if isinstance(presence_topic, str):
            # Refuse a topic that cannot be published to now, not when the first client connects.
            EphemeralUpdate(presence_topic, ServerSentEvent())
        elif presence_topic is not None and not callable(presence_topic):
            raise wrong_type("presence_topic", presence_topic, "a topic, or a callable that returns one")
        self._on_presence = on_presence
        self._presence_topic = presence_topic
        self._publish = publish
        self._callbacks = callbacks

    def notify(self, topic: str, key: Hashable, present: bool) -> None:
        """
        Notify of a key that has appeared or disappeared.

        The event does not disclose the key, which may be a session's secret.
        """
        self._callbacks.run("presence_topic", self._publish_change, topic, present)
        if self._on_presence is not None:
            self._callbacks.run("on_presence", self._on_presence, topic, key, present)

    def _publish_change(self, topic: str, present: bool) -> None:
        named = self._presence_topic
        of_events = named(topic) if callable(named) else named
        # The subscribers of a single topic for events are not announced there themselves.
        if of_events is not None and of_events != topic:
            change = to_json({"topic": topic, "present": present})
            self._publish(of_events, ServerSentEvent(change, "presence"))
