"""
The public names, which users rely on.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import txsse

PUBLIC = {
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
}


class ExportTests:
    def test_public_names(self) -> None:
        """
        They are these, no more and no fewer.
        """
        assert set(txsse.__all__) == PUBLIC
        assert all(hasattr(txsse, name) for name in PUBLIC)

    def test_all_of_each_module(self) -> None:
        """
        Every name in a module's ``__all__`` is there.
        """
        for found in pkgutil.walk_packages(txsse.__path__, "txsse."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name in getattr(module, "__all__", []):
                assert hasattr(module, name), f"{found.name}.{name}"

    def test_importing_installs_no_reactor(self) -> None:
        """
        Whoever wants another reactor can still install it.
        """
        check = (
            "import txsse, txsse.tap, txsse.cli, sys; assert 'twisted.internet.reactor' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", check], check=True)

    def test_protocol_needs_no_twisted(self) -> None:
        """
        The sans-I/O part imports nothing of it.
        """
        check = (
            "import sys, types; package = types.ModuleType('txsse'); package.__path__ = ['txsse'];"
            "sys.modules['txsse'] = package;"
            "import txsse.protocol.parser, txsse.protocol.encoder;"
            "assert not any(name.split('.')[0] == 'twisted' for name in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", check], check=True)
