"""
Servers that others have written, as a test sees them.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

from tests.browser.test_event_source import TEXTS

__all__ = ["SENT", "ForeignServer"]

# What they are given to send: an id, a type and a text.
SENT = [
    (f"№ {number} · {name}", type, text)
    for number, ((name, text), type) in enumerate(
        zip(TEXTS.items(), cycle(["message", "tick", "größe"])), start=1
    )
]


@dataclass(frozen=True)
class ForeignServer:
    """
    One of them.

    :ivar origin: where it is.
    :ivar to_text: makes the text again of what it makes of it.
    """

    origin: str
    to_text: Callable[[str], str]

    @property
    def open_streams(self) -> int:
        """
        How many streams it has open.
        """
        with urllib.request.urlopen(f"{self.origin}/open", timeout=30) as answer:
            return int(answer.read())
