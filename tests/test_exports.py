"""
The public names: exactly these, importable lazily, without a reactor and in part without Twisted.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import txsse
from tests.processes import finish, python

PUBLIC = {
    "Access",
    "InvalidResponse",
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
}


class ExportTests:
    def test_public_names(self) -> None:
        """
        ``txsse.__all__`` has exactly the public names, and each can be imported.
        """
        assert set(txsse.__all__) == PUBLIC
        assert all(hasattr(txsse, name) for name in PUBLIC)

    def test_homes(self) -> None:
        """
        The imports for type checkers agree with the table of the lazy imports.
        """
        tree = ast.parse(Path(txsse.__file__).read_text(encoding="utf-8"))
        seen = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("txsse.")
            for alias in node.names
        }
        assert seen == txsse._HOMES
        assert {*seen, "__version__"} == PUBLIC
        assert PUBLIC <= set(dir(txsse))

    def test_no_such_name(self) -> None:
        """
        A name that ``txsse`` does not have raises AttributeError.
        """
        with pytest.raises(AttributeError, match="has no attribute 'hubs'"):
            txsse.hubs  # noqa: B018

    @pytest.mark.process
    def test_protocol_without_twisted(self) -> None:
        """
        The public names of the protocol work where Twisted is not installed.
        """
        program = """
import sys
for name in ("twisted", "zope", "incremental", "automat"):
    sys.modules[name] = None
from txsse import EventStreamParser, ServerSentEvent, encode_event
import txsse.protocol.encoder, txsse.protocol.event, txsse.protocol.parser
event, = EventStreamParser().feed(encode_event(ServerSentEvent("a")))
print(event.data)
"""
        done = finish(python("-c", program))
        assert (done.stdout, done.stderr) == ("a\n", "")

    def test_all_of_each_module(self) -> None:
        """
        Every name in a module's ``__all__`` exists.
        """
        for found in pkgutil.walk_packages(txsse.__path__, "txsse."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name in getattr(module, "__all__", []):
                assert hasattr(module, name), f"{found.name}.{name}"

    @pytest.mark.process
    def test_importing_installs_no_reactor(self) -> None:
        """
        Importing txsse, its plugin or its command installs no reactor, so that a program can still choose
        one.
        """
        check = (
            "import txsse, txsse.tap, txsse.cli, sys; assert 'twisted.internet.reactor' not in sys.modules"
        )
        finish(python("-c", check), check=True)
