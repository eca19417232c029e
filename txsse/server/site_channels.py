"""
Finds the channels on the connections of a site, so that a service can end them before it closes these.

A registry of all channels would take memory for each of them; the connections are registered anyway.
"""

from __future__ import annotations

from txsse._twisted.http import channel_of, producers_of
from txsse.server.channel import SSEChannel
from txsse.server.sinks.detached import DetachedSink
from txsse.server.sinks.request import RequestSink
from txsse.web.site import ClosingSite

__all__ = ["channels_on"]


def channels_on(site: ClosingSite) -> list[SSEChannel]:
    """
    Return the channels that are open, or still being flushed, on the connections of a site.
    """
    found: list[SSEChannel] = []
    for connection in site.connections:
        protocol: object = connection.protocol
        # A detached sink is the protocol of its connection; other sinks are producers of their requests.
        sinks = [protocol] if isinstance(protocol, DetachedSink) else producers_of(channel_of(protocol))
        for sink in sinks:
            owner = sink.owner if isinstance(sink, DetachedSink | RequestSink) else None
            if isinstance(owner, SSEChannel):
                found.append(owner)
    return found
