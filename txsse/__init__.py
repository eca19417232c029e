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

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from txsse.client.machine import ReadyState
    from txsse.client.source import EventSource
    from txsse.errors import (
        BatchTooLarge,
        ChannelClosed,
        CloseReason,
        ConnectionFailed,
        HubStopped,
        InvalidField,
        InvalidResponse,
        JournalFailed,
        ListenFailed,
        NotAcknowledged,
        NotOneEvent,
        NotRetained,
        PeerSilent,
        RetainedFull,
        RetainUnsupported,
        SSEError,
        StreamEnded,
        StreamRefused,
        TooManyChanges,
        TooManyPatterns,
        TooManyRevocations,
        TooManyTopics,
        UpdateTooLarge,
        UpgradeRefused,
    )
    from txsse.hub.hub import Hub
    from txsse.hub.service import HubService
    from txsse.hub.snapshot import SnapshotRequest
    from txsse.hub.subscriber import Subscriber
    from txsse.journal.interfaces import IJournal, IRetainingJournal
    from txsse.journal.memory import MemoryJournal
    from txsse.journal.retention import Retention
    from txsse.journal.update import Update
    from txsse.protocol.encoder import encode_comment, encode_event
    from txsse.protocol.event import ServerSentEvent
    from txsse.protocol.parser import EventStreamParser, EventTooLarge
    from txsse.server.access import Access
    from txsse.server.broadcast import broadcast
    from txsse.server.channel import SSEChannel
    from txsse.server.limits import Limits
    from txsse.server.request import StreamRequest
    from txsse.server.resource import SSEResource
    from txsse.server.slow import OverflowPolicy
    from txsse.server.upgrade import Upgrader, upgrade
    from txsse.topics.pattern import TopicPattern
    from txsse.topics.topic_set import ISelector

    __version__: str

__all__ = [
    "Access",
    "BatchTooLarge",
    "ChannelClosed",
    "CloseReason",
    "ConnectionFailed",
    "EventSource",
    "EventStreamParser",
    "EventTooLarge",
    "Hub",
    "HubService",
    "HubStopped",
    "IJournal",
    "IRetainingJournal",
    "ISelector",
    "InvalidField",
    "InvalidResponse",
    "JournalFailed",
    "Limits",
    "ListenFailed",
    "MemoryJournal",
    "NotAcknowledged",
    "NotOneEvent",
    "NotRetained",
    "OverflowPolicy",
    "PeerSilent",
    "ReadyState",
    "RetainUnsupported",
    "RetainedFull",
    "Retention",
    "SSEChannel",
    "SSEError",
    "SSEResource",
    "ServerSentEvent",
    "SnapshotRequest",
    "StreamEnded",
    "StreamRefused",
    "StreamRequest",
    "Subscriber",
    "TooManyChanges",
    "TooManyPatterns",
    "TooManyRevocations",
    "TooManyTopics",
    "TopicPattern",
    "Update",
    "UpdateTooLarge",
    "UpgradeRefused",
    "Upgrader",
    "__version__",
    "broadcast",
    "encode_comment",
    "encode_event",
    "upgrade",
]

# The module of each public name. It is imported when the name is first used, so that importing txsse.protocol
# does not import Twisted.
_HOMES = {
    "ReadyState": "txsse.client.machine",
    "EventSource": "txsse.client.source",
    "InvalidResponse": "txsse.errors",
    "BatchTooLarge": "txsse.errors",
    "ChannelClosed": "txsse.errors",
    "CloseReason": "txsse.errors",
    "ConnectionFailed": "txsse.errors",
    "HubStopped": "txsse.errors",
    "InvalidField": "txsse.errors",
    "JournalFailed": "txsse.errors",
    "ListenFailed": "txsse.errors",
    "NotAcknowledged": "txsse.errors",
    "NotOneEvent": "txsse.errors",
    "PeerSilent": "txsse.errors",
    "SSEError": "txsse.errors",
    "StreamEnded": "txsse.errors",
    "StreamRefused": "txsse.errors",
    "TooManyChanges": "txsse.errors",
    "TooManyPatterns": "txsse.errors",
    "TooManyRevocations": "txsse.errors",
    "TooManyTopics": "txsse.errors",
    "NotRetained": "txsse.errors",
    "RetainUnsupported": "txsse.errors",
    "RetainedFull": "txsse.errors",
    "IRetainingJournal": "txsse.journal.interfaces",
    "Retention": "txsse.journal.retention",
    "SnapshotRequest": "txsse.hub.snapshot",
    "UpdateTooLarge": "txsse.errors",
    "UpgradeRefused": "txsse.errors",
    "Access": "txsse.server.access",
    "broadcast": "txsse.server.broadcast",
    "Hub": "txsse.hub.hub",
    "HubService": "txsse.hub.service",
    "ISelector": "txsse.topics.topic_set",
    "TopicPattern": "txsse.topics.pattern",
    "IJournal": "txsse.journal.interfaces",
    "MemoryJournal": "txsse.journal.memory",
    "Update": "txsse.journal.update",
    "encode_comment": "txsse.protocol.encoder",
    "encode_event": "txsse.protocol.encoder",
    "ServerSentEvent": "txsse.protocol.event",
    "EventStreamParser": "txsse.protocol.parser",
    "EventTooLarge": "txsse.protocol.parser",
    "SSEChannel": "txsse.server.channel",
    "Limits": "txsse.server.limits",
    "OverflowPolicy": "txsse.server.slow",
    "StreamRequest": "txsse.server.request",
    "Subscriber": "txsse.hub.subscriber",
    "SSEResource": "txsse.server.resource",
    "Upgrader": "txsse.server.upgrade",
    "upgrade": "txsse.server.upgrade",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = import_module("txsse._version").__version__.public()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
