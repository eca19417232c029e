"""
What a :class:`~txsse.web.bounded_request.BoundedRequest` knows of its connection, and of its site.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.web.http import Request

from txsse.web.responses import Sentence

__all__ = [
    "DEFAULT_MAX_BODIES",
    "DEFAULT_MAX_BODY",
    "DEFAULT_REQUEST_TIMEOUT",
    "RequestBounds",
    "RequestOwner",
]

#: How many bytes a body may have.
DEFAULT_MAX_BODY = 1024 * 1024

#: How many bytes all of them may have together: 32 of the largest.
DEFAULT_MAX_BODIES = 32 * DEFAULT_MAX_BODY

#: How long a client may take to send a request, in seconds.
DEFAULT_REQUEST_TIMEOUT = 30.0


class RequestBounds(Protocol):
    """
    What the requests of a site share; see :class:`~txsse.web.bounded_site.BoundedSite`.

    :ivar bodies: how many bytes of bodies are held.
    """

    max_body: int
    max_bodies: int
    bodies: int
    parse_forms: bool
    wants_body: Callable[[Request], bool]
    refuse: Callable[[Request], Sentence | None]


class RequestOwner(Protocol):
    """
    The connection of requests.

    :ivar incoming: requests whose head has come, and whose body has not.
    :ivar answering: requests of HTTP/2 whose answer is on its way.
    """

    incoming: list[Any]
    answering: list[Any]

    @property
    def site(self) -> RequestBounds:
        """
        The site.
        """

    def call_when_late(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Call something when a request that begins now should have come.
        """

    def call_soon(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Call something in the next turn of the reactor.
        """

    def request_came(self) -> None:
        """
        A request is there as a whole.
        """

    def may_answer(self, request: Any) -> bool:
        """
        Tell whether a request may be answered now. Otherwise it is woken when it may be looked at again.
        """

    def answered(self, request: Any) -> None:
        """
        A request has its answer, or its client has gone.
        """
