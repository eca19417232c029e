"""
HTTP/1 connections of our own, and a Twisted that lacks the names that it keeps for itself.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from twisted.web import http

from tests.fakes import Client, Wire
from txsse import SSEChannel, SSEResource
from txsse.server.sinks import detached
from txsse.server.sinks.direct import DirectSink
from txsse.service.site import BoundedSite
from txsse.web.framing import StrictChannel, negotiating_protocol

# The module that the proxy stands for is where the name is.
WITHOUT = """
import sys
from twisted.web import http
vars(object.__getattribute__(http, "_module")).pop("_GenericHTTPChannelProtocol")
import txsse, txsse.tap, txsse.service.site
print(txsse.web.framing.negotiating_protocol())
"""


class NegotiatingProtocolTests:
    def test_this_twisted(self) -> None:
        """
        It is there, and connections of the service have it.
        """
        assert negotiating_protocol() is http._GenericHTTPChannelProtocol

    def test_import(self) -> None:
        """
        txsse can be imported without it.
        """
        ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
        assert (ran.stdout, ran.stderr) == ("None\n", "")

    @pytest.mark.parametrize("known", [True, False])
    def test_service(self, plain: Wire, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
        """
        Without it a connection is plain HTTP/1, which is all that is offered over TLS; streams keep requests.
        """
        if not known:
            monkeypatch.setattr("txsse.service.site.negotiating_protocol", lambda: None)
            monkeypatch.setattr(detached, "_negotiating_protocol", lambda: None)
        channels: list[SSEChannel] = []
        resource = SSEResource(channels.append, upgrader=plain.upgrader(keep_request=False))
        site = BoundedSite(resource, reactor=plain.reactor, max_body=1000, request_timeout=10.0)
        site.timeOut = None
        site.log = lambda request: None
        assert (b"h2" in site.acceptableProtocols()) is (known and http.H2_ENABLED)
        assert b"http/1.1" in site.acceptableProtocols()
        client = Client(plain, site)
        client.request()
        (channel,) = channels
        channel.send("x")
        client.pump()
        assert client.body == b"data: x\n\n"
        assert isinstance(channel.sink, detached.DetachedSink if known else DirectSink)
        channel.close()
        client.pump()
        assert client.ended
        client.request()
        assert len(channels) == 2
        if not known:
            assert isinstance(channels[1].request.channel, StrictChannel)
        client.disconnect()
        assert not channels[1].is_open
