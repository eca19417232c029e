"""
The access of a request: whose stream it is, the topics that it subscribes to, and until when.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from inspect import isawaitable
from math import isfinite
from typing import TypeAlias, cast

from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.server import Request

from txsse._arguments import check_number, wrong_type
from txsse.topics.topic_set import Topics, TopicSet

__all__ = ["Access", "AccessRule", "Granted", "ask", "check_expires", "check_key", "to_access", "topics_of"]


@dataclass(frozen=True)
class Access:
    """
    The access that a rule grants to a request.

    :ivar topics: the topics to subscribe to: a topic or a selector, or several. A channel without a hub needs
        none.
    :ivar private: the topics whose private updates the subscriber may receive too, in the same form.
    :ivar key: whose stream it is, such as a user's ID or a session's: any hashable value; ``None`` for
        a stream without one. A hub with several nodes needs a ``str``, an ``int``, or a tuple of these.
    :ivar context: any object that the program needs later; ``channel.context`` returns it.
    :ivar last_event_id: the ID to resume from, ``""`` for a client that does not resume; ``None`` to take it
        from the request's ``Last-Event-ID`` header.
    :ivar expires: when the access ends, in seconds from now; ``None`` for never. The stream is then closed
        with :attr:`txsse.CloseReason.EXPIRED`. A request whose access ends before its stream opens is
        refused.
    :raises TypeError: for a key that is not hashable, and for an ``expires`` that is not a number.
    :raises ValueError: for an ``expires`` that is not finite.
    """

    topics: Topics = ()
    private: Topics = ()
    # Neither appears in logs: a key may be a session's secret.
    key: Hashable = field(default=None, kw_only=True, repr=False)
    context: object = field(default=None, kw_only=True, repr=False)
    last_event_id: str | None = field(default=None, kw_only=True)
    expires: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """
        Check the key and the time: a rule's mistake appears where it was made.
        """
        check_key(self.key)
        check_expires(self.expires)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """
        All keys that the stream can be disconnected by, the key first; empty for a stream without any.
        """
        return () if self.key is None else (self.key,)


def topics_of(access: Access) -> tuple[TopicSet, TopicSet]:
    """
    Return the topics and the private topics of an access.

    :raises TypeError: if a rule returned anything else, such as ``False`` or nothing to refuse a request.
    """
    try:
        return TopicSet(access.topics), TopicSet(access.private)
    except TypeError as error:
        raise TypeError(
            f"{error}; give topics or an Access; to refuse a request, raise UpgradeRefused"
        ) from None


Granted: TypeAlias = "Topics | Access"

AccessRule: TypeAlias = (
    "Granted | Callable[[Request], Granted | Deferred[Topics] | Deferred[Access] | Awaitable[Granted]]"
)


def check_key(key: object) -> None:
    """
    Check that a key is hashable.

    :raises TypeError: if it is not.
    """
    try:
        hash(key)
    except TypeError:
        raise wrong_type("key", key, "hashable, such as a user's ID") from None


def check_expires(expires: object) -> None:
    """
    Check a number of seconds from now.

    :param expires: the number; ``None`` for never.
    :raises TypeError: for anything but a number.
    :raises ValueError: for a number that is not finite.
    """
    if expires is not None:
        check_number("expires", expires, "a number of seconds from now")
        assert isinstance(expires, int | float)
        if not isfinite(expires):
            raise ValueError(f"expires must be a finite number of seconds, not {expires!r}; None means never")


async def ask(rule: AccessRule, request: http.Request) -> Access:
    """
    Ask a rule for the access of a request.

    :param rule: the rule, or the access of all requests.
    """
    # The request of a resource is one of twisted.web.server.
    granted = rule(cast(Request, request)) if callable(rule) else rule
    if isawaitable(granted):
        granted = await granted
    return to_access(granted)


def to_access(granted: Granted) -> Access:
    """
    Return an access; topics alone grant no private updates.
    """
    return granted if isinstance(granted, Access) else Access(granted)
