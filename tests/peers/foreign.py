"""
Foreign servers from a test's point of view, and the events that they send.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

from tests.browser.test_event_source import TEXTS

__all__ = ["SENT", "ForeignServer"]

# The events that foreign servers send: id, type and text.
SENT = [
    (f"№ {number} · {name}", type, text)
    for number, ((name, text), type) in enumerate(
        zip(TEXTS.items(), cycle(["message", "tick", "größe"])), start=1
    )
]


@dataclass(frozen=True)
class ForeignServer:
    """
    A foreign server.

    :ivar origin: the origin of its URLs.
    :ivar to_text: decodes an event's data to the original text.
    """

    origin: str
    to_text: Callable[[str], str]

    @property
    def open_streams(self) -> int:
        """
        The number of its open streams.
        """
        with urllib.request.urlopen(f"{self.origin}/open", timeout=30) as answer:
            return int(answer.read())
