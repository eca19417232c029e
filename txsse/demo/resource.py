"""
The demo's web tree.

Its paths::

    /                 the page
    /streams/NAME     a stream, GET
    /streams/close    ends all open streams of one name, POST
    /hub/publish      sends a message to all subscribers of /streams/hub, POST
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource

from txsse._serialize import to_json
from txsse.demo.hub import DemoHub
from txsse.demo.streams import demo_streams
from txsse.web.content_security import content_security_policy
from txsse.web.origin import refuse_host
from txsse.web.responses import Branch, Sentence, refuse_method, refuse_strangers, send_page, send_response

__all__ = ["Demo"]


class Demo(Branch):
    """
    The root of the demo.

    It adds security headers to each response, and refuses requests for foreign host names (DNS rebinding).

    :param reactor: the reactor.
    :param journal: the name of the hub's journal.
    :raises ValueError: for an invalid name.
    :ivar hub: the hub.
    """

    def __init__(self, reactor: IReactorTime, journal: str = "memory:") -> None:
        Branch.__init__(self, "Not found: the demo is at /.")
        self._streams = demo_streams(reactor)
        self._hub = DemoHub(reactor, journal)
        self.hub = self._hub.hub
        closing = {name: stream.close_all for name, stream in self._streams.items()}
        streams = Streams({**self._streams, "hub": self._hub.stream}, {**closing, "hub": self._hub.close_all})
        publishing = Branch("Not found: pages publish at /hub/publish.")
        publishing.putChild(b"publish", self._hub.publish)
        self.putChild(b"", Page())
        self.putChild(b"streams", streams)
        self.putChild(b"hub", publishing)

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """
        Return a child, or a refusal for a request with a foreign host name.
        """
        # Plain responses have this header already; streams do not.
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        request.setHeader(b"Referrer-Policy", b"no-referrer")
        hosts = request.requestHeaders.getRawHeaders(b"Host") or []
        refused = refuse_host(hosts, request.clientproto)
        if refused is not None:
            return Sentence(403, refused)
        child: IResource = Resource.getChildWithDefault(self, path, request)
        return child

    async def stop(self) -> None:
        """
        End all streams; return when they have ended.
        """
        stopping = [Deferred.fromCoroutine(stream.stop()) for stream in self._streams.values()]
        await gatherResults([*stopping, self._hub.stop()])


class Page(Branch):
    """
    The page: one file, with its style and script.
    """

    def __init__(self) -> None:
        Branch.__init__(self, "Not found: the demo is at /.")
        # As text: for the hashes of the policy, a browser uses the parsed script, whose line ends are LF.
        page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        self._page = page.encode()
        self._policy = content_security_policy(page)

    def render(self, request: Request) -> int:
        """
        Send the page.
        """
        if request.method not in (b"GET", b"HEAD"):
            return refuse_method(request, "GET, HEAD")
        return send_page(request, self._page, self._policy)


class Streams(Branch):
    """
    The streams by name, and the resource that ends them.

    :param streams: the streams.
    :param closing: for each name, a function that ends its open streams and returns how many there were.
    """

    def __init__(self, streams: Mapping[str, IResource], closing: Mapping[str, Callable[[], int]]) -> None:
        Branch.__init__(self, f"No such stream: the streams are {', '.join(streams)}.")
        for name, stream in streams.items():
            self.putChild(name.encode("ascii"), stream)
        self.putChild(b"close", CloseStreams(closing))


class CloseStreams(Resource):
    """
    Ends all open streams of one name, as a server that restarts does; the browsers reconnect.

    :param closing: for each name, a function that ends its open streams and returns how many there were.
    """

    isLeaf = True

    def __init__(self, closing: Mapping[str, Callable[[], int]]) -> None:
        Resource.__init__(self)
        self._closing = {name.encode("ascii"): close for name, close in closing.items()}

    def render(self, request: Request) -> int:
        """
        End the streams of the name in the form field ``stream``; the response is JSON with their number.
        """
        if request.method != b"POST":
            return refuse_method(request, "POST")
        refused = refuse_strangers(request)
        if refused is not None:
            return refused.render(request)
        close = self._closing.get((request.args or {}).get(b"stream", [b""])[0])
        if close is None:
            names = b", ".join(self._closing).decode("ascii")
            return send_response(request, 400, f"The form field stream must be one of {names}.")
        closed = to_json({"closed": close()}).encode()
        return send_response(request, 200, closed, content_type=b"application/json")
