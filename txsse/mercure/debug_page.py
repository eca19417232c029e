"""
A page that shows a hub at work: it subscribes, publishes, reads tokens and watches who is subscribed.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from urllib.parse import urlsplit

from twisted.web.http import Request
from twisted.web.resource import IResource, Resource

from txsse._serialize import to_json
from txsse.mercure.settings import Settings
from txsse.web.content_security import content_security_policy
from txsse.web.origin import name_in_host, refuse_host
from txsse.web.responses import NOTHING, Sentence, refuse_method, send_page, send_response

__all__ = ["PageResource"]

# What stands in the file where the page is told of its hub.
_NOTHING_TOLD = '<script type="application/json" id="hub">null</script>'

_ANY = "*"


class PageResource(Resource):
    """
    The page: one file, with everything in it. It may be anywhere at the hub's origin; it holds no secret, and
    can do nothing that the hub would not let anybody do with the same token.

    It answers under the name in the hub's URL, as ``localhost``, and by an IP address. Any other name may be
    one that a page of somebody else's had resolve to this machine (DNS rebinding).

    :param settings: what the hub is told.
    :param hosts: more names that it answers under, such as the one that a proxy asks for; ``*`` for any.
    :raises ValueError: for a name that is none.
    """

    def __init__(self, settings: Settings, *, hosts: Iterable[str] | None = None) -> None:
        Resource.__init__(self)
        if isinstance(hosts, str):
            raise ValueError(f"hosts must be a list of strings, not a single one: [{hosts!r}]")
        own = urlsplit(settings.url).hostname or ""
        self._hosts = {own, *map(_read_host, hosts or ())}
        # As text, because a browser hashes what it parsed, with line ends that are LF.
        page = files(__package__).joinpath("debug_page.html").read_text(encoding="utf-8")
        self._policy = content_security_policy(page)
        self._page = page.replace(_NOTHING_TOLD, _NOTHING_TOLD.replace("null", _describe(settings))).encode()

    def getChild(self, path: bytes, request: Request) -> IResource:
        """
        Answer for what is below it, which is nothing.
        """
        _protect(request)
        return Sentence(404, NOTHING)

    def render(self, request: Request) -> int:
        """
        Send the page.
        """
        _protect(request)
        if not self._may_answer(request):
            refusal = "This page answers under the name in the hub's URL: any other one may be DNS rebinding."
            return send_response(request, 403, refusal)
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD")
        return send_page(request, self._page, self._policy)

    def _may_answer(self, request: Request) -> bool:
        hosts = request.requestHeaders.getRawHeaders(b"Host") or []
        if _ANY in self._hosts or refuse_host(hosts, request.clientproto) is None:
            return True
        return len(hosts) == 1 and name_in_host(hosts[0].decode("latin-1")) in self._hosts


def _read_host(host: str) -> str:
    name = host if host == _ANY else name_in_host(host)
    if name is None:
        raise ValueError(f"{host!r} is no name of a host; one is hub.example.org")
    return name


def _describe(settings: Settings) -> str:
    """
    Write what the page has to know, as JSON that no browser takes for the end of its script.

    Source: https://html.spec.whatwg.org/#restrictions-for-contents-of-script-elements
    """
    told = {
        "url": settings.url,
        "path": settings.path,
        "audience": list(settings.audience) or [settings.url],
        "anonymous": settings.anonymous,
        "compatibility": settings.compatibility,
    }
    return to_json(told).replace("<", "\\u003c")


def _protect(request: Request) -> None:
    request.setHeader(b"Referrer-Policy", b"no-referrer")
