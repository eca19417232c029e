"""
A POST in Twisted that only reads the form and responds.

``python bare.py PORT``
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class Bare(Resource):
    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        assert request.args[b"data"]
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return b"urn:uuid:00000000-0000-4000-8000-000000000000"


site = Site(Bare())
site.log = lambda request: None
reactor.listenTCP(int(sys.argv[1]), site, interface="127.0.0.1")
reactor.run()
