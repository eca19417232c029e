"""
The typed stream options of a Mercure hub (:class:`txsse.mercure.stream_options.StreamOptions`).
"""

from __future__ import annotations

from inspect import signature

from txsse import Upgrader
from txsse.mercure.stream_options import StreamOptions

# Set by the protocol or by the hub's settings.
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
        The stream options of a Mercure hub are all options of an upgrader except those that the hub's
        resource sets.
        """
        assert set(StreamOptions.__annotations__) == set(signature(Upgrader).parameters) - OWN
