"""
The subscription API: lists the active subscriptions of a hub as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http import CACHED, NOT_MODIFIED, Request
from twisted.web.server import NOT_DONE_YET

from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_json
from txsse.hub.hub import Hub
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.verify import Verifier
from txsse.mercure.credentials import find_credential
from txsse.mercure.errors import Forbidden, MissingToken, Refusal
from txsse.mercure.responses import failed
from txsse.mercure.selectors.matcher import TYPES
from txsse.mercure.settings import Settings
from txsse.mercure.subscription_events import Subscriptions
from txsse.web.responses import can_respond, refuse_method, send_response

__all__ = ["SubscriptionApi"]

_log = Logger()


class _NotFound(Refusal):
    """
    The subscription does not exist.
    """

    status = 404


class SubscriptionApi:
    """
    Answers requests below ``/subscriptions``.
    """

    def __init__(
        self, hub: Hub, verifier: Verifier, settings: Settings, subscriptions: Subscriptions
    ) -> None:
        self._hub = hub
        self._verifier = verifier
        self._settings = settings
        self._failures = RateLimitedLog(_log)
        self._subscriptions = subscriptions

    def render(self, request: Request, segments: Sequence[str]) -> int:
        """
        Answer a request with a list, one subscription, or an error.

        :param segments: the decoded segments of the path after ``subscriptions``.
        """
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD, OPTIONS")
        working = Deferred.fromCoroutine(self._list(request, segments))
        working.addErrback(failed, request, self._settings, self._failures)
        return NOT_DONE_YET

    async def _list(self, request: Request, segments: Sequence[str]) -> None:
        grants = await self._authorise(request)
        path = "/".join(
            [f"{self._settings.path}/subscriptions", *(quote(each, safe="") for each in segments)]
        )
        if not grants.subscribe.has([path]):
            raise Forbidden("the token does not allow reading these subscriptions")
        resume_id = await self._hub.resume_id()
        # The list is made after the ID, so that it has every subscription that began before the ID.
        document = to_json(await self._document(path, segments)).encode()
        tag = b'"' + sha256(resume_id.encode() + b"\0" + document).hexdigest()[:32].encode() + b'"'
        if not can_respond(request):
            # setETag needs the client's connection.
            return
        request.setHeader(b"Link", self._cursor(resume_id).encode())
        request.setHeader(b"Cache-Control", b"private, must-revalidate")
        if request.setETag(tag) is CACHED:
            send_response(request, NOT_MODIFIED)
        else:
            send_response(request, 200, document, content_type=b"application/json")

    async def _authorise(self, request: Request) -> Grants:
        credential = find_credential(request, self._settings)
        if credential is None:
            raise MissingToken("listing subscriptions requires a token")
        return await self._verifier.verify(credential.token, "subscribe")

    async def _document(self, path: str, segments: Sequence[str]) -> dict[str, object]:
        found = await self._subscriptions.documents(path)
        if path in found:
            return found[path]
        if len(segments) == 1:
            # With one segment, the path may also be a prefix of the paths of subscriptions by exact topic or
            # pattern (``/subscriptions/exact/…``). Listing those requires a grant for their own paths, so
            # they are left out.
            found = {id: each for id, each in found.items() if each.get("topic") == segments[0]}
        if segments and not self._is_list(segments):
            raise _NotFound("there is no such subscription")
        return {"id": path, "type": "subscriptions", "subscriptions": list(found.values())}

    def _is_list(self, segments: Sequence[str]) -> bool:
        """
        Return whether a path is that of a matcher, whether or not a subscriber uses it now.
        """
        return (segments[0] in TYPES and len(segments) == 2) or (
            self._settings.compatibility and len(segments) == 1
        )

    def _cursor(self, resume_id: str) -> str:
        """
        Return the ``Link`` to the hub, with the ID from which a client follows the events after the list.
        """
        id = quote(resume_id, safe=":/#?@!$&'()*+,;=-._~")
        return (
            f'<{self._settings.url}>; rel="mercure"; last-event-id="{id}"; type="mercure"; '
            'content-type="application/json"'
        )
