"""
Places in a web tree that are only on the way.
"""

from __future__ import annotations

from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from txsse.mercure.answers import send

__all__ = ["Branch"]


class Branch(Resource):
    """
    A place without anything of its own.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def getChild(self, path: bytes, request: Request) -> IResource:
        """
        Answer for what is not there.
        """
        nothing: IResource = _Nothing()
        return nothing

    def render(self, request: Request) -> int:
        """
        Answer that there is nothing.
        """
        send(request, 404, b"there is nothing here\n")
        return NOT_DONE_YET


class _Nothing(Branch):
    isLeaf = True
