"""
Tokens, URLs, publishers and Node readers for the tests of other projects' Mercure clients.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.mercure.world import SECRET
from tests.mercure.world import old_token as make_old_token
from tests.processes import Program, start
from tests.service.process import HUB_URL
from tests.waiting import PATIENCE, wait_until
from txsse.mercure.auth.mint import make_token

__all__ = [
    "BOOKS",
    "LISTEN",
    "URL",
    "Note",
    "Program",
    "find_node",
    "following",
    "old_token",
    "publish_to",
    "target",
    "token_for",
]

HERE = Path(__file__).parent

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
URL = f"--url={HUB_URL}"

BOOKS = "https://example.com/books"

#: A line that a program prints.
Note = list[Any]


def token_for(hub: str, **topics: list[str]) -> str:
    """
    Return a token that is valid for ten minutes, and grants every topic unless topics are named.
    """
    given: dict[str, Any] = topics or {"publish": ["*"], "subscribe": ["*"]}
    return make_token(SECRET, audience=hub, expires=time.time() + 600, **given)


def old_token(**claims: list[str]) -> str:
    """
    Return a token in the form before Mercure 1.0, which grants every topic unless claims are named.
    """
    return make_old_token(**(claims or {"publish": ["*"], "subscribe": ["*"]}))


def target(url: str, **parameters: str | list[str]) -> str:
    """
    Return the URL of a subscription.
    """
    return f"{url}?{urlencode(parameters, doseq=True)}"


def publish_to(url: str, token: str, topic: str, data: str, **fields: str) -> str:
    """
    Publish over TLS without verifying the certificate, and return the update's id.
    """
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    form = urlencode({"topic": topic, "data": data, **fields}).encode()
    request = urllib.request.Request(url, form, {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
        return str(answer.read().decode())


def find_node(*packages: str) -> str:
    """
    Return the path of Node; skip the test if Node or one of the packages is missing.
    """
    found = shutil.which("node")
    if found is None:
        pytest.skip("install Node 18 or newer and npm, such as Debian's packages nodejs and npm")
    if not all((HERE / "node_modules" / package).is_dir() for package in packages):
        pytest.skip("npm install --prefix tests/peers --no-package-lock --no-audit --no-fund")
    return found


class Following:
    """
    A process that prints notes.

    """

    def __init__(self, program: Program) -> None:
        self._program = program

    @property
    def notes(self) -> list[Note]:
        """
        The notes so far.
        """
        return [
            json.loads(line) for line in self._program.out.splitlines(keepends=True) if line.endswith("\n")
        ]

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """
        The type, data and id of each event so far that has data.
        """
        return [(type or "message", data, id) for type, data, id in self.shown if data]

    @property
    def shown(self) -> list[Note]:
        """
        The type, data and id of each event so far, including those without data.
        """
        return [note[1:] for note in self.notes if note[0] == "event"]

    def wait_for(self, kind: str, number: int = 1) -> list[Note]:
        """
        Wait until there are this many notes of a kind, and return them.
        """
        return wait_until(
            lambda: [note for note in self.notes if note[0] == kind],
            lambda found: len(found) >= number,
            f"{number} times {kind}; there is {self.notes!r}",
        )

    def wait_for_data(self, data: str) -> list[tuple[str, str, str]]:
        """
        Wait for an event with these data, and return all events so far.
        """
        return wait_until(
            lambda: self.events,
            lambda events: any(each[1] == data for each in events),
            f"{data}; there is {self.notes!r}",
        )


@contextmanager
def following(
    node: str,
    client: str,
    url: str,
    *,
    token: str | None = None,
    types: tuple[str, ...] = (),
    onclose: str = "end",
    json_alone: bool = False,
    **headers: str,
) -> Iterator[Following]:
    """
    Follow a stream with one of Node's clients until the block ends.

    :param onclose: ``again`` if ``fetch-event-source`` reconnects after an orderly end of the stream,
        otherwise ``end``.
    :param json_alone: whether the program parses all data as JSON.
    """
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    asked = {
        "client": client,
        "url": url,
        "headers": headers,
        "types": types,
        "onclose": onclose,
        "json": json_alone,
    }
    with start([node, HERE / "mercure_reader.mjs", json.dumps(asked)], needs="node") as program:
        yield Following(program)
