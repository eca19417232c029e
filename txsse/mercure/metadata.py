"""
The hub's protected resource metadata, which clients read without a token.

Source: https://www.rfc-editor.org/rfc/rfc9728
"""

from __future__ import annotations

from twisted.web.http import Request
from twisted.web.resource import Resource

from txsse._serialize import to_json
from txsse.mercure.auth.grants import DETAIL_TYPE, OWN_DETAIL_TYPE
from txsse.mercure.responses import segments_below
from txsse.mercure.selectors.matcher import TYPES
from txsse.mercure.settings import Settings
from txsse.web.responses import NOTHING, refuse_method, send_response

__all__ = ["MetadataResource"]


class MetadataResource(Resource):
    """
    Serves the metadata document at the path of the hub below ``/.well-known/oauth-protected-resource``.
    """

    isLeaf = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = settings.path
        self._document = to_json(_describe(settings)).encode()

    def render(self, request: Request) -> int:
        """
        Send the document, or 404 for the path of another hub.
        """
        # The metadata is public, so pages of any origin may read it.
        request.setHeader(b"Access-Control-Allow-Origin", b"*")
        path = "/" + "/".join(segments_below(request))
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD")
        if path != self._path:
            return send_response(request, 404, NOTHING)
        return send_response(request, 200, self._document, content_type=b"application/json")


def _describe(settings: Settings) -> dict[str, object]:
    # Clients put the first audience into the tokens that they request.
    document: dict[str, object] = {"resource": next(iter(settings.audience), settings.url)}
    # Clients request tokens from these. An issuer that shares a key with the hub is not such a server.
    servers = [
        issuer.name for issuer in settings.issuers if issuer.authorization_server and issuer.name is not None
    ]
    if servers:
        document["authorization_servers"] = servers
    document |= {
        "authorization_details_types_supported": [DETAIL_TYPE, OWN_DETAIL_TYPE],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": settings.cookie,
        "mercure_matcher_types_supported": list(TYPES),
    }
    if settings.subscriptions:
        document["mercure_subscriptions"] = True
    return document
