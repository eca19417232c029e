"""
Server-sent events for Twisted.

The smallest server::

    from twisted.internet import endpoints, reactor, task
    from twisted.web.server import Site
    from txsse import SSEResource

    def clock(channel):
        return task.LoopingCall(lambda: channel.send(f"{reactor.seconds():.0f}")).start(1.0)

    endpoints.serverFromString(reactor, "tcp:8080").listen(Site(SSEResource(clock)))
    reactor.run()
"""

from txsse._version import __version__ as _version
from txsse.client.machine import ReadyState
from txsse.client.source import EventSource
from txsse.errors import (
    BrokenReply,
    ChannelClosed,
    CloseReason,
    ConnectionFailed,
    EventTooLarge,
    HubStopped,
    InvalidField,
    JournalFailed,
    PeerSilent,
    SSEError,
    StreamEnded,
    StreamRefused,
    TooManyPatterns,
    TooManyTopics,
    UpdateTooLarge,
    UpgradeRefused,
)
from txsse.hub.access import Access
from txsse.hub.hub import Hub
from txsse.hub.topics import ISelector
from txsse.journal.interfaces import IJournal
from txsse.journal.memory import MemoryJournal
from txsse.journal.update import Update
from txsse.protocol.encoder import encode_comment, encode_event
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser
from txsse.server.channel import SSEChannel
from txsse.server.limits import Limits
from txsse.server.resource import SSEResource
from txsse.server.upgrade import Upgrader, upgrade

__version__ = _version.public()

__all__ = [
    "Access",
    "BrokenReply",
    "ChannelClosed",
    "CloseReason",
    "ConnectionFailed",
    "EventSource",
    "EventStreamParser",
    "EventTooLarge",
    "Hub",
    "HubStopped",
    "IJournal",
    "ISelector",
    "InvalidField",
    "JournalFailed",
    "Limits",
    "MemoryJournal",
    "PeerSilent",
    "ReadyState",
    "SSEChannel",
    "SSEError",
    "SSEResource",
    "ServerSentEvent",
    "StreamEnded",
    "StreamRefused",
    "TooManyPatterns",
    "TooManyTopics",
    "Update",
    "UpdateTooLarge",
    "UpgradeRefused",
    "Upgrader",
    "__version__",
    "encode_comment",
    "encode_event",
    "upgrade",
]
