"""
Answers of one plain sentence, for pages and their like.
"""

from __future__ import annotations

from twisted.web.http import Request
from twisted.web.resource import IResource, Resource

from txsse.web.origin import refuse_origin

__all__ = ["NOTHING", "Branch", "Sentence", "refuse_method", "refuse_strangers"]


#: For what does not exist.
NOTHING = "There is nothing here."


class Branch(Resource):
    """
    A resource that is there for its children.

    :param nothing: the sentence for what does not exist.
    """

    def __init__(self, nothing: str) -> None:
        Resource.__init__(self)
        self._nothing = Sentence(404, nothing)

    def getChild(self, path: bytes, request: Request) -> IResource:
        """
        Answer for a child that does not exist.
        """
        return self._nothing

    def render(self, request: Request) -> bytes:
        """
        Answer for itself.
        """
        return self._nothing.render(request)


class Sentence(Resource):
    """
    An answer of one plain sentence, to any request.

    :param status: the status.
    :param sentence: the sentence.
    """

    isLeaf = True

    def __init__(self, status: int, sentence: str) -> None:
        Resource.__init__(self)
        self._status = status
        self._sentence = sentence

    def render(self, request: Request) -> bytes:
        """
        Send it.
        """
        request.setResponseCode(self._status)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return self._sentence.encode() + b"\n"


def refuse_method(request: Request, allowed: str) -> bytes:
    """
    Answer a request with another method than those that are allowed.
    """
    request.setHeader(b"Allow", allowed.encode("ascii"))
    return Sentence(405, f"Allowed here: {allowed}.").render(request)


def refuse_strangers(request: Request) -> bytes | None:
    """
    Answer a request that only a page of this server may send, unless one did.

    :returns: the answer; ``None`` where the request may go on.
    """
    refused = refuse_origin(
        request.getHeader(b"Origin"),
        request.getHeader(b"Sec-Fetch-Site"),
        b"https" if request.isSecure() else b"http",
        request.getHeader(b"Host"),
    )
    return None if refused is None else Sentence(403, refused).render(request)
