"""
Twisted Web resources of a Mercure hub: the hub's URL with everything below it, and its metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Unpack
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txsse._clock import wall
from txsse._rate_limited_log import RateLimitedLog
from txsse.hub.hub import Hub
from txsse.journal.update import EARLIEST
from txsse.mercure.auth.verify import Role, Verifier
from txsse.mercure.credentials import find_credential
from txsse.mercure.disconnect import DISCONNECT_PATH, Disconnecting
from txsse.mercure.errors import MissingToken
from txsse.mercure.metadata import MetadataResource
from txsse.mercure.publish import REMOVING, UNRETAIN_PATH, Publisher
from txsse.mercure.responses import failed, segments_below
from txsse.mercure.revocations import revocations_of
from txsse.mercure.settings import PATH, Settings
from txsse.mercure.stream_options import StreamOptions
from txsse.mercure.subscribe import QUERY, Subscribing
from txsse.mercure.subscription_api import SubscriptionApi
from txsse.mercure.subscription_events import Subscriptions
from txsse.server.negotiation import Answer, Rules, cors_headers, decide, read_asked
from txsse.server.options import to_rules
from txsse.server.upgrade import Upgrader, answer
from txsse.web.framing import refuse_framing
from txsse.web.responses import NOTHING, Branch, refuse_method, send_response

__all__ = ["MercureResource", "put_hub", "well_known"]

_log = Logger()

_METHODS = ("GET", "QUERY", "POST")
_HEADERS = ("Accept", "Authorization", "Cache-Control", "Content-Type", "If-None-Match", "Last-Event-ID")


class MercureResource(Resource):
    """
    Serves the hub's URL and the paths below it.

    Twisted reads the whole body of a request before it calls a resource. If untrusted clients can reach the
    hub, serve the tree with a :class:`txsse.web.BoundedSite`, which limits the size and the time.

    :param hub: the hub.
    :param settings: the hub's settings.
    :param stream_options: options of an :class:`~txsse.Upgrader` for the streams: ``keepalive``, ``limits``,
        ``max_lifetime`` and others. The settings say which origins may read the streams.
    :ivar form_paths: the paths below the hub's that accept forms, each with its purpose: disconnecting
        clients, and removing retained updates.
    """

    isLeaf = True

    def __init__(self, hub: Hub, settings: Settings, **stream_options: Unpack[StreamOptions]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        origins = tuple(settings.origins)
        credentials = bool(origins) and "*" not in origins
        exposed = ["Link", "Mercure-Last-Event-ID", *(["Last-Event-ID"] if settings.compatibility else [])]
        own = {"Accept-Query": "application/x-www-form-urlencoded"}
        if origins:
            own["Access-Control-Expose-Headers"] = ", ".join(exposed)
        stream_options["headers"] = {**own, **stream_options.get("headers", {})}
        stream_options.setdefault("reactor", hub.upgrader.reactor)
        upgrader = Upgrader(
            methods=("GET", "QUERY"),
            allow_origins=origins,
            allow_credentials=credentials,
            allow_headers=_HEADERS,
            last_event_id_parameter=None,
            # The hub cannot know which ID the client meant. Replaying from the earliest loses no update.
            conflicting_last_event_ids=EARLIEST,
            **stream_options,
        )
        self._rules = to_rules(_METHODS, origins, credentials, _HEADERS, 1024)
        self._list_rules = to_rules(("GET",), origins, credentials, _HEADERS, 1024)
        self._form_rules = to_rules(("POST",), origins, credentials, _HEADERS, 1024)
        self._exposed = ", ".join(exposed).encode()
        purposes = {DISCONNECT_PATH: "disconnecting", UNRETAIN_PATH: REMOVING}
        self.form_paths = {
            f"{settings.path.rstrip('/')}/{path}".encode(): purpose for path, purpose in purposes.items()
        }
        self._settings = settings
        self._failures = RateLimitedLog(_log)
        revocations = revocations_of(hub)
        self._verifier = verifier = Verifier(
            settings.issuers,
            base=settings.url,
            audience=tuple(settings.audience) or (settings.url,),
            algorithms=settings.algorithms,
            compatibility=settings.compatibility,
            key_claim=settings.key_claim,
            revoked=revocations,
            seconds=lambda: wall(upgrader.reactor),
        )
        subscriptions = Subscriptions(hub, settings) if settings.subscriptions else None
        self._disconnecting = Disconnecting(verifier, settings, revocations, lambda: wall(upgrader.reactor))
        self._publisher = Publisher(hub, verifier, settings, upgrader.reactor)
        self._streams = Subscribing(hub, verifier, settings, upgrader=upgrader, subscriptions=subscriptions)
        self._listing = (
            None if subscriptions is None else SubscriptionApi(hub, verifier, settings, subscriptions)
        )

    def render(self, request: Request) -> int:
        """
        Route a request by its path and method: publish, subscribe, a list, a form below, or an error.
        """
        problem = refuse_framing(request)
        if problem is not None:
            return send_response(request, 400, problem)
        below = segments_below(request)
        if below[:1] == ["subscriptions"] and self._listing is not None:
            self._set_cors(request)
            if request.method == b"OPTIONS":
                return _render_options(request, self._list_rules)
            return self._listing.render(request, below[1:])
        if below == [DISCONNECT_PATH]:
            return self._render_form(request, self._disconnecting.disconnect, _send_json)
        if below == [UNRETAIN_PATH]:
            return self._render_form(request, self._publisher.unretain, _send_id)
        if below not in ([], [""]):
            self._set_cors(request)
            return send_response(request, 404, NOTHING)
        if request.method == b"POST":
            self._set_cors(request)
            return self._start(request, self._publisher.publish, _send_id)
        if request.method == b"OPTIONS" or request.method not in (b"GET", b"HEAD", QUERY):
            return _render_options(request, self._rules)
        return self._streams.render(request)

    def _render_form(
        self,
        request: Request,
        work: Callable[[Request], Coroutine[Deferred[object], object, str]],
        send: Callable[[str, Request], None],
    ) -> int:
        self._set_cors(request)
        if request.method == b"OPTIONS":
            return _render_options(request, self._form_rules)
        if request.method != b"POST":
            return refuse_method(request, "POST, OPTIONS")
        return self._start(request, work, send)

    def _start(
        self,
        request: Request,
        work: Callable[[Request], Coroutine[Deferred[object], object, str]],
        send: Callable[[str, Request], None],
    ) -> int:
        working = Deferred.fromCoroutine(work(request))
        working.addCallback(send, request)
        working.addErrback(failed, request, self._settings, self._failures)
        return NOT_DONE_YET

    def wants_body(self, request: Request) -> bool:
        """
        Return whether the hub wants the body of a request, from its head alone.

        If the token is missing or not valid, the request is refused at once. :class:`txsse.web.BoundedSite`
        calls this.

        :param request: a request for this resource or for one of :attr:`form_paths`, whose body has not been
            received yet.
        """
        path = unquote_to_bytes(request.path)
        if request.method != b"POST" and (path in self.form_paths or request.method != QUERY):
            return False
        role: Role = "publish" if request.method == b"POST" else "subscribe"
        purpose = self.form_paths.get(path) or ("publishing" if role == "publish" else "subscribing")
        checking = Deferred.fromCoroutine(self._check_token(request, role, purpose))
        refusals: list[Failure] = []
        # While the keys are being fetched, the verdict is open, and the body is received meanwhile.
        checking.addErrback(refusals.append)
        for refusal in refusals:
            self._set_cors(request)
            failed(refusal, request, self._settings, self._failures)
        return not refusals

    async def _check_token(self, request: Request, role: Role, purpose: str) -> None:
        credential = find_credential(request, self._settings)
        if credential is not None:
            await self._verifier.verify(credential.token, role)
        elif role == "publish" or not self._settings.anonymous:
            raise MissingToken(f"{purpose} requires a token")

    def _set_cors(self, request: Request) -> None:
        if not self._rules.allow_origins:
            return
        for name, value in cors_headers(read_asked(request, None), self._rules):
            request.responseHeaders.addRawHeader(name, value)
        request.setHeader(b"Access-Control-Expose-Headers", self._exposed + b", ETag")


def well_known(hub: Hub, settings: Settings, **stream_options: Unpack[StreamOptions]) -> Resource:
    """
    Return the resource for ``.well-known``, with a hub and its metadata.

    Example::

        root.putChild(b".well-known", well_known(hub, settings))

    :param hub: the hub.
    :param settings: the hub's settings. The path of its URL is ``/.well-known/mercure``, or another one below
        ``/.well-known/``.
    :param stream_options: as for :class:`MercureResource`.
    :raises ValueError: if the URL has another path; use :func:`put_hub` then.
    """
    root = Branch()
    put_hub(root, hub, settings, **stream_options)
    tree: Resource = root.children[b".well-known"]
    if not settings.path.startswith("/.well-known/"):
        raise ValueError(f"{settings.url} is not below /.well-known/; use put_hub")
    return tree


def put_hub(
    root: Resource, hub: Hub, settings: Settings, **stream_options: Unpack[StreamOptions]
) -> MercureResource:
    """
    Add a hub to a web tree at the path of its URL, and its metadata below ``.well-known``.

    :param root: the root of the tree, without a child named ``.well-known``.
    :param stream_options: as for :class:`MercureResource`.
    :returns: the hub's resource.
    :raises ValueError: if the URL has no path.
    """
    *parents, name = settings.path.strip("/").split("/")
    if not name:
        raise ValueError(f"{settings.url} has no path; the URL of a hub needs one, such as {PATH}")
    described = Branch()
    described.putChild(b"oauth-protected-resource", MetadataResource(settings))
    root.putChild(b".well-known", described)
    place = root
    for parent in parents:
        known: Resource | None = place.children.get(parent.encode())
        if known is None:
            known = Branch()
            place.putChild(parent.encode(), known)
        place = known
    resource = MercureResource(hub, settings, **stream_options)
    place.putChild(name.encode(), resource)
    return resource


def _render_options(request: Request, rules: Rules) -> int:
    decision = decide(read_asked(request, None), rules)
    assert isinstance(decision, Answer)
    answer(request, decision)
    return NOT_DONE_YET


def _send_json(document: str, request: Request) -> None:
    send_response(request, 200, document.encode(), content_type=b"application/json")


def _send_id(id: str, request: Request) -> None:
    send_response(request, 200, id.encode())
