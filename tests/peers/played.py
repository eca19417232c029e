"""
The server that plays the scripts, from a test's point of view.
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
    A request that the server received.

    :ivar path: the part after the script's own path.
    :ivar headers: the header fields, with names in lower case.
    """

    path: str
    headers: dict[str, str]

    @property
    def visited(self) -> Visited:
        """
        The request as a script describes it.
        """
        id = self.headers.get("last-event-id")
        return self.path, None if id is None else id.encode("latin-1").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class NodeNotes:
    """
    The output of ``eventsource.mjs``.

    :ivar version: the major version of Node.
    :ivar by_script: the notes for each script.
    """

    version: int
    by_script: Mapping[str, Sequence[Note]]


class Scripts:
    """
    The process of ``server.py``.

    :param origin: the origin of its URLs.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def url(self, client: str, name: str) -> str:
        """
        Return the URL at which a client requests a script.
        """
        return f"{self.origin}/run/{client}/{quote(name, safe='')}/"

    def report_seen(self, client: str, name: str) -> None:
        """
        Report that a client has shown the event at which its script waits.
        """
        url = self.url(client, name).replace("/run/", "/seen/")
        with urllib.request.urlopen(url, b"", timeout=30) as answer:
            answer.read()

    def requests(self, client: str, name: str) -> list[Request]:
        """
        Return the requests of a client for a script.
        """
        own = f"/{quote(name, safe='')}/"
        with urllib.request.urlopen(f"{self.origin}/visits/{client}{own.rstrip('/')}", timeout=30) as answer:
            return [
                Request(each["path"].removeprefix(f"/run/{client}{own}"), each["headers"])
                for each in json.load(answer)
            ]
