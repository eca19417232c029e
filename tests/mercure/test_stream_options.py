"""
The options of a hub's streams, for type checkers.
"""

from __future__ import annotations

from inspect import signature

from txsse import Upgrader
from txsse.mercure.stream_options import StreamOptions

# What the protocol decides, or the settings.
OWN = {
    "methods",
    "allow_origins",
    "allow_credentials",
    "allow_headers",
    "last_event_id_parameter",
    "conflicting_last_event_ids",
}


class StreamOptionsTests:
    def test_complete(self) -> None:
        """
        They are all options of an upgrader that the hub's resource does not set itself.
        """
        assert set(StreamOptions.__annotations__) == set(signature(Upgrader).parameters) - OWN
