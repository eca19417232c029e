"""
The hub's own HTTP resource, for a web tree.
"""

from __future__ import annotations

from twisted.web.http import Request

from txsse.hub.admission import Admission
from txsse.hub.request_admission import RequestAdmission
from txsse.hub.snapshot import Snapshots
from txsse.server.access import AccessRule
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader

__all__ = ["HubResource"]


class HubResource(SSEResource):
    """
    A resource that subscribes the client of each request. ``Hub.resource`` creates it.

    :param admission: the hub's admission.
    :param rule: the access of all requests, or a callable that returns the access of a request.
    :param upgrader: creates the channels.
    :param snapshots: makes the snapshots that clients are sent first; ``None`` for none.
    """

    def __init__(
        self,
        admission: Admission,
        rule: AccessRule,
        *,
        upgrader: Upgrader,
        snapshots: Snapshots | None = None,
    ) -> None:
        super().__init__(upgrader=upgrader)
        self._requests = RequestAdmission(admission, rule, upgrader, snapshots=snapshots)

    def render(self, request: Request) -> int:
        """
        Open a stream for a request and subscribe it, or send another response.
        """
        return self._requests.render(request)
