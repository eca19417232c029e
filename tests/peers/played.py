"""
The server that plays the scripts, as a test sees it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tests.peers.script import Note, Visited

__all__ = ["NodeNotes", "Request", "Scripts"]


@dataclass(frozen=True)
class Request:
    """
    A request that came.

    :ivar path: what stands behind the script's own path.
    :ivar headers: its fields, with names in lower case.
    """

    path: str
    headers: dict[str, str]

    @property
    def visited(self) -> Visited:
        """
        What a script tells of it.
        """
        id = self.headers.get("last-event-id")
        return self.path, None if id is None else id.encode("latin-1").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class NodeNotes:
    """
    What ``eventsource.mjs`` tells.

    :ivar version: the major version of Node.
    :ivar by_script: the notes.
    """

    version: int
    by_script: Mapping[str, Sequence[Note]]


class Scripts:
    """
    The process of ``server.py``.

    :param origin: where it is.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def url(self, client: str, name: str) -> str:
        """
        Tell where a client finds a script.
        """
        return f"{self.origin}/run/{client}/{quote(name, safe='')}/"

    def tell_seen(self, client: str, name: str) -> None:
        """
        Tell that a client has come to where a script waits for it.
        """
        url = self.url(client, name).replace("/run/", "/seen/")
        with urllib.request.urlopen(url, b"", timeout=30) as answer:
            answer.read()

    def requests(self, client: str, name: str) -> list[Request]:
        """
        Tell which requests it had.
        """
        own = f"/{quote(name, safe='')}/"
        with urllib.request.urlopen(f"{self.origin}/visits/{client}{own.rstrip('/')}", timeout=30) as answer:
            return [
                Request(each["path"].removeprefix(f"/run/{client}{own}"), each["headers"])
                for each in json.load(answer)
            ]
