"""
The hub's debug page: it subscribes, publishes, decodes tokens and shows the active subscriptions.
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

# The element of the HTML file that receives the description of the hub.
_NO_HUB = '<script type="application/json" id="hub">null</script>'

_ANY = "*"


class PageResource(Resource):
    """
    The debug page, one self-contained HTML file.

    It may be served at any path of the hub's origin. It contains no secret, and can do only what the hub
    allows any client with the same token.

    The page answers requests for the host name of the hub's URL, for ``localhost`` and for IP addresses.
    Another host name may be one that an attacker's DNS resolves to this machine (DNS rebinding): such a
    request gets 403.

    :param settings: the hub's settings.
    :param hosts: more host names that the page answers, such as the one that a proxy sends; ``*`` for any.
    :raises ValueError: for a text that is not a host name.
    """

    def __init__(self, settings: Settings, *, hosts: Iterable[str] | None = None) -> None:
        Resource.__init__(self)
        if isinstance(hosts, str):
            raise ValueError(f"hosts must be a list of strings, not a single one: [{hosts!r}]")
        own = urlsplit(settings.url).hostname or ""
        self._hosts = {own, *map(_read_host, hosts or ())}
        # It is read as text, since a browser hashes the text that it parsed, with LF as line ends.
        page = files(__package__).joinpath("debug_page.html").read_text(encoding="utf-8")
        self._policy = content_security_policy(page)
        self._page = page.replace(_NO_HUB, _NO_HUB.replace("null", _describe(settings))).encode()

    def getChild(self, path: bytes, request: Request) -> IResource:
        """
        Return a 404 for every path below the page.
        """
        _protect(request)
        return Sentence(404, NOTHING)

    def render(self, request: Request) -> int:
        """
        Send the page, or an error: 403 for another host name, 405 for a method other than GET and HEAD.
        """
        _protect(request)
        if not self._may_answer(request):
            refusal = "Open this page by the host name of the hub's URL: any other name may be DNS rebinding."
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
        raise ValueError(f"{host!r} is not a host name; an example is hub.example.org")
    return name


def _describe(settings: Settings) -> str:
    """
    Return what the page needs to know of the hub, as JSON that is safe inside a ``<script>`` element.

    Source: https://html.spec.whatwg.org/#restrictions-for-contents-of-script-elements
    """
    description = {
        "url": settings.url,
        "path": settings.path,
        "audience": list(settings.audience) or [settings.url],
        "anonymous": settings.anonymous,
        "compatibility": settings.compatibility,
    }
    return to_json(description).replace("<", "\\u003c")


def _protect(request: Request) -> None:
    request.setHeader(b"Referrer-Policy", b"no-referrer")
