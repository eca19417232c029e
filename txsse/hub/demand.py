"""
Demand: calls a program when a topic gets its first subscriber, and when it has lost its last one.

Strategy: the calls for one topic do not overlap. If the demand changes while a callback runs, the next one is
called when it has ended. A topic that was closed and opened again meanwhile needs no call.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txsse._arguments import wrong_type
from txsse._rate_limited_log import RateLimitedLog
from txsse.hub.callbacks import Callbacks

__all__ = ["Demand", "OnTopic"]

#: Called with the name of a topic. It may return an awaitable.
OnTopic = Callable[[str], object]

# How long the next call for a topic waits for the end of a callback, in seconds.
_PATIENCE = 60.0


class Demand:
    """
    Calls a program for the topics that this node is responsible for.

    :param on_opened: called when a topic has a subscriber, and this node becomes responsible.
    :param on_closed: called when it has none any more, or another node is responsible.
    :param get_reactor: returns the hub's reactor.
    :param callbacks: calls the callbacks.
    :raises TypeError: for callbacks that are not callable.
    """

    def __init__(
        self,
        on_opened: OnTopic | None,
        on_closed: OnTopic | None,
        get_reactor: Callable[[], IReactorTime],
        callbacks: Callbacks,
    ) -> None:
        for name, callback in (("on_topic_opened", on_opened), ("on_topic_closed", on_closed)):
            if callback is not None and not callable(callback):
                raise wrong_type(name, callback, "a callable that takes the name of a topic")
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._get_reactor = get_reactor
        self._callbacks = callbacks
        self._topics: dict[str, _Topic] = {}
        self._has_stopped = False
        self._late = RateLimitedLog(Logger())

    def open(self, topic: str) -> None:
        """
        Call ``on_opened``, unless the topic is open.
        """
        if self._has_stopped:
            # The registry reports a name that it registered just before.
            return
        of_topic = self._topics.setdefault(topic, _Topic(topic))
        of_topic.is_wanted = True
        self._settle(of_topic)

    def close(self, topic: str) -> None:
        """
        Call ``on_closed``, unless the topic is closed.
        """
        of_topic = self._topics.get(topic)
        if of_topic is not None:
            of_topic.is_wanted = False
            self._settle(of_topic)

    def stop(self) -> None:
        """
        Wait for no callback any more: the topics that are open are closed at once.
        """
        self._has_stopped = True
        for of_topic in list(self._topics.values()):
            of_topic.is_wanted = False
            self._ended(of_topic, of_topic.call)

    def _settle(self, of_topic: _Topic) -> None:
        while of_topic.late is None and of_topic.is_open != of_topic.is_wanted:
            of_topic.is_open = of_topic.is_wanted
            self._call(of_topic)
        if not of_topic.is_open and of_topic.late is None:
            self._topics.pop(of_topic.name, None)

    def _call(self, of_topic: _Topic) -> None:
        opened = of_topic.is_open
        name = "on_topic_opened" if opened else "on_topic_closed"
        callback = self._on_opened if opened else self._on_closed
        if callback is None:
            return
        of_topic.call += 1
        call = of_topic.call
        if not self._has_stopped:
            reactor = self._get_reactor()
            of_topic.late = reactor.callLater(_PATIENCE, self._is_late, of_topic, name)
        running = self._callbacks.run(name, callback, of_topic.name)
        running.addCallback(lambda _: self._ended(of_topic, call))

    def _is_late(self, of_topic: _Topic, name: str) -> None:
        self._late.error(
            "{name} of the topic {topic} has not returned for {seconds:g} s; the hub goes on without it",
            name=name,
            topic=of_topic.name,
            seconds=_PATIENCE,
        )
        self._ended(of_topic, of_topic.call)

    def _ended(self, of_topic: _Topic, call: int) -> None:
        if call != of_topic.call:
            # The hub did not wait for it.
            return
        of_topic.call += 1
        late, of_topic.late = of_topic.late, None
        if late is not None and late.active():
            late.cancel()
        self._settle(of_topic)


class _Topic:
    """
    A topic that is open, or for which a callback runs.

    :ivar is_wanted: whether it is to be open.
    :ivar is_open: whether the program was last called to open it.
    :ivar call: counts the calls, and their ends.
    :ivar late: reports that the callback which runs takes long; ``None`` while none runs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_wanted = self.is_open = False
        self.call = 0
        self.late: IDelayedCall | None = None
