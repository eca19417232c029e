"""
A hub as a resource in a web tree.
"""

from __future__ import annotations

from twisted.web.http import Request

from txsse.hub.access import AccessRule
from txsse.hub.admission import Admission
from txsse.hub.request_admission import RequestAdmission
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader

__all__ = ["HubResource"]


class HubResource(SSEResource):
    """
    A resource whose every request becomes a subscriber. ``Hub.resource`` makes it.

    :param admission: that of the hub.
    :param rule: the topics, or returns the access of a request.
    :param upgrader: makes the channels.
    """

    def __init__(self, admission: Admission, rule: AccessRule, *, upgrader: Upgrader) -> None:
        super().__init__(upgrader=upgrader)
        self._requests = RequestAdmission(admission, rule, upgrader)

    def render(self, request: Request) -> int:
        """
        Open a channel and subscribe it, or answer otherwise.
        """
        return self._requests.render(request)
