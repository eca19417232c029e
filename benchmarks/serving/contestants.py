"""
The servers that are compared: how to start each of them, and the requests that it gets.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

from fanout import contestants as fanout
from shared import rounds
from shared.peers import ROOT
from shared.processes import Failed

from serving.sizes import SIZE, Sizes

__all__ = ["ALL", "NCHAN", "Contestant", "Started"]

# Like the topics in the Mercure specification.
_TOPIC = "https://example.com/books/1"

_DATA = "@" * SIZE


@dataclass(frozen=True)
class Started:
    """
    How to start a server, and how to use it.

    :ivar command: the command line.
    :ivar environment: additional environment variables.
    :ivar subscribe: the request of a subscriber.
    :ivar publish: the request of a publisher, with a placeholder for the data.
    """

    command: Sequence[str]
    environment: dict[str, str]
    subscribe: str
    publish: str


@dataclass(frozen=True)
class Contestant(rounds.Contestant):
    """
    A server.

    :ivar start: returns how to start it, given a port, a folder for its files, and the sizes.
    :ivar child: whether its only child process does the work.
    :ivar streams: whether it can have subscribers.
    """

    start: Callable[[int, Path, Sizes], Started]
    child: bool = False
    streams: bool = True


def _service(*, private: bool) -> Callable[[int, Path, Sizes], Started]:
    def start(port: int, folder: Path, sizes: Sizes) -> Started:
        from txsse.mercure.auth.mint import make_token
        from txsse.mercure.settings import PATH

        key, url, expires = secrets.token_urlsafe(32), f"http://127.0.0.1:{port}{PATH}", time.time() + 3600
        publisher = make_token(key, audience=url, expires=expires, publish=["*"])
        subscriber = make_token(key, audience=url, expires=expires, subscribe=["*"])
        return Started(
            [
                *(sys.executable, "-m", "twisted", "--log-format=text", "txsse"),
                f"--listen=tcp:{port}:interface=127.0.0.1:backlog=1024",
                f"--journal-count={sizes.held}",
                *([] if private else ["--anonymous"]),
            ],
            {"PYTHONPATH": str(ROOT), "TXSSE_KEY": key},
            _get(f"{PATH}?match={quote_plus(_TOPIC)}", _bearer(subscriber) if private else ""),
            _post(
                PATH,
                f"topic={quote_plus(_TOPIC)}&data={_DATA}{'&private=on' if private else ''}",
                f"{_bearer(publisher)}{_FORM}",
            ),
        )

    return start


def _nchan(port: int, folder: Path, sizes: Sizes) -> Started:
    (nginx,) = (each for each in fanout.ALL if each.name == "nchan")
    command = nginx.command(port, 15, folder)
    # The buffer that clients resume from has to hold as many messages as the journal holds updates.
    file = folder / "nginx.conf"
    text = file.read_text(encoding="utf-8")
    fitting = text.replace(
        "nchan_message_buffer_length 1000;",
        f"nchan_message_buffer_length {sizes.held}; nchan_message_timeout 24h;",
    )
    if fitting == text:
        raise Failed("nchan.conf does not set nchan_message_buffer_length")
    file.write_text(fitting, encoding="utf-8")
    return Started(command, {}, _get("/events"), _post("/publish", _DATA))


def _bare(port: int, folder: Path, sizes: Sizes) -> Started:
    command = [sys.executable, str(Path(__file__).with_name("bare.py")), str(port)]
    return Started(command, {}, "", _post("/", f"topic={quote_plus(_TOPIC)}&data={_DATA}", _FORM))


_FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


def _get(target: str, fields: str = "") -> str:
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{fields}\r\n"


def _post(target: str, body: str, fields: str = "") -> str:
    length = f"Content-Length: {len(body)}\r\n"
    return f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}{length}\r\n{body}"


NCHAN = Contestant("nchan", "nginx, nchan", _nchan, child=True)

ALL = (
    Contestant("public", "txsse", _service(private=False)),
    Contestant("private", "txsse, private", _service(private=True)),
    NCHAN,
    Contestant("bare", "Twisted, a bare POST", _bare, streams=False),
)
