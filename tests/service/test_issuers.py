"""
Tests of the keys of authorization servers, over real sockets.
"""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import LogEvent
from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.integration.clients import listen
from tests.mercure.signers import ec_key, jwk, jwks
from txsse.mercure.auth.verify import Issuer
from txsse.service.config import Config
from txsse.service.issuers import make_issuers


class Server(Resource):
    """
    An authorization server that redirects requests for its keys.

    :ivar asked: what it was asked for.
    """

    isLeaf = True

    def __init__(self, status: int) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self._status = status

    def render_GET(self, request: Request) -> bytes:
        self.asked.append(request.path)
        if request.path == b"/moved":
            request.setResponseCode(self._status)
            request.setHeader(b"Location", b"/keys")
        # Keys in the body of a redirect must not be used either.
        return jwks(jwk(ec_key(), kid="a")).encode()


class RedirectTests:
    @pytest_twisted.ensureDeferred
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_not_followed(self, status: int, logged: list[LogEvent]) -> None:
        """
        Redirects of a JWKS URL are not followed: keys come only from the URL that the operator configured.
        """
        server = Server(status)
        port = await listen(server)
        url = f"http://127.0.0.1:{port.getHost().port}"
        moved, there = (issuer_at(f"{url}/{path}") for path in ("moved", "keys"))
        assert list(await moved.publish.find(None)) == []
        assert not moved.publish.known
        assert server.asked == [b"/moved"]
        assert any(f"the server answers {status}" in str(event.get("problem")) for event in logged)
        assert [key.id for key in await there.publish.find(None)] == ["a"]
        await port.stopListening()


def issuer_at(url: str) -> Issuer:
    (issuer,) = make_issuers(Config(issuer=("https://as.example",), jwks=(url,)), reactor)
    return issuer
