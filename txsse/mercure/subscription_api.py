"""
The subscriptions of a hub, listed.
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
    There is no such subscription.
    """

    status = 404


class SubscriptionApi:
    """
    Answers who is subscribed.
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
        Answer a request.

        :param segments: its path behind ``subscriptions``, decoded.
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
            raise Forbidden("the token does not allow to see these subscriptions")
        resume_id = await self._hub.resume_id()
        # Behind the id, so that what began before it is there.
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
            raise MissingToken("subscriptions are listed to those with a token")
        return await self._verifier.verify(credential.token, "subscribe")

    async def _document(self, path: str, segments: Sequence[str]) -> dict[str, object]:
        found = await self._subscriptions.documents(path)
        if path in found:
            return found[path]
        if len(segments) == 1:
            # A type is below there as well, and its subscriptions are for those who may read their topics.
            found = {id: each for id, each in found.items() if each.get("topic") == segments[0]}
        if segments and not self._is_list(segments):
            raise _NotFound("there is no such subscription")
        return {"id": path, "type": "subscriptions", "subscriptions": list(found.values())}

    def _is_list(self, segments: Sequence[str]) -> bool:
        """
        Tell whether a path is that of a matcher, whether anybody has it at the moment or not.
        """
        return (segments[0] in TYPES and len(segments) == 2) or (
            self._settings.compatibility and len(segments) == 1
        )

    def _cursor(self, resume_id: str) -> str:
        """
        Tell from where the events about subscriptions go on behind the list.
        """
        id = quote(resume_id, safe=":/#?@!$&'()*+,;=-._~")
        return (
            f'<{self._settings.url}>; rel="mercure"; last-event-id="{id}"; type="mercure"; '
            'content-type="application/json"'
        )
