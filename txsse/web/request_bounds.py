"""
The parts of a connection and of a site that a :class:`~txsse.web.bounded_request.BoundedRequest` uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.web.http import HTTPChannel, Request

from txsse.web.responses import Sentence

__all__ = [
    "DEFAULT_MAX_BODIES",
    "DEFAULT_MAX_BODY",
    "DEFAULT_REQUEST_TIMEOUT",
    "OwnedRequest",
    "RequestBounds",
    "RequestOwner",
]

#: The most bytes of one body.
DEFAULT_MAX_BODY = 1024 * 1024

#: The most bytes of all bodies together: 32 of the largest size.
DEFAULT_MAX_BODIES = 32 * DEFAULT_MAX_BODY

#: How long a client may take to send a request, in seconds.
DEFAULT_REQUEST_TIMEOUT = 30.0


class RequestBounds(Protocol):
    """
    The limits and counts that the requests of a site share; see :class:`~txsse.web.bounded_site.BoundedSite`.

    :ivar bodies: how many bytes of bodies are held.
    """

    max_body: int
    max_bodies: int
    bodies: int
    parse_forms: bool
    wants_body: Callable[[Request], bool]
    refuse: Callable[[Request], Sentence | None]


class OwnedRequest(Protocol):
    """
    The part of a :class:`~txsse.web.bounded_request.BoundedRequest` that its connection uses.
    """

    channel: HTTPChannel

    @property
    def is_http2(self) -> bool:
        """
        Whether it is a stream of an HTTP/2 connection.
        """

    @property
    def unsent(self) -> int:
        """
        How many bytes of the response wait for the client, over HTTP/2.
        """

    def look_ahead(self) -> None:
        """
        Decide from the head whether the body is accepted; a response may be sent at once.
        """

    def try_to_answer(self) -> None:
        """
        Send the response, if the client has read enough by now.
        """

    def wait_for_turn(self) -> None:
        """
        Try to send the response in the next turn of the reactor.
        """

    def wait_for_transport(self) -> None:
        """
        Try to send the response when the transport has sent its buffer.
        """


class RequestOwner(Protocol):
    """
    The connection of a request.

    :ivar incoming: requests whose head has been received, and whose body has not.
    :ivar answering: HTTP/2 requests whose response is being sent.
    """

    incoming: list[OwnedRequest]
    answering: list[OwnedRequest]

    @property
    def site(self) -> RequestBounds:
        """
        The site of the connection.
        """

    def call_when_late(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Schedule a call for the time at which a request that begins now must be complete.
        """

    def call_soon(self, call: Callable[[], object]) -> IDelayedCall:
        """
        Schedule a call for the next turn of the reactor.
        """

    def request_received(self) -> None:
        """
        Handle that a request is complete.
        """

    def may_answer(self, request: OwnedRequest) -> bool:
        """
        Return whether a request may be answered now; otherwise, arrange for the request to try again.
        """

    def answered(self, request: OwnedRequest) -> None:
        """
        Forget a request that was answered, or whose client has disconnected.
        """
