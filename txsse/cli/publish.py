"""
``txsse publish URL TOPIC [DATA]``: publish to a hub.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from twisted.internet import task
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.iweb import IAgent

from txsse._clock import make_steady, wall
from txsse._extras import MissingExtra, need_tls
from txsse._output import Unwritable, complain, put
from txsse.cli.arguments import positive, read_url
from txsse.cli.command import Command
from txsse.cli.http import Poster
from txsse.cli.input import BadFeed, lines_of, open_number, open_path, pieces_of, whole_of
from txsse.cli.key_options import (
    KEY_ENVIRONMENT,
    InvalidOption,
    add_key_arguments,
    choose_key,
    make_signed,
    read_keys,
)
from txsse.cli.publish_result import NotPublished
from txsse.client.response import parse_url

__all__ = ["PUBLISH", "publish"]

# Exit statuses; 2 is argparse's own.
_OK, _FAILED, _WRONG, _INTERRUPTED = 0, 1, 2, 130

#: The environment variable that holds a token.
_TOKEN_ENVIRONMENT = "TXSSE_TOKEN"

_EPILOG = f"""\
DATA stands right behind TOPIC. Without it, or where it is -, the data come from stdin. The ids of what was
published are printed, one on a line.

The token comes from --token-file, or the environment variable {_TOKEN_ENVIRONMENT}. With --key-file, or a
secret in {KEY_ENVIRONMENT}, one is made for a minute, which allows these topics and nothing else; that needs
what this installs: pip install 'txsse[mercure]'. There is no option for a token or a secret: everybody on the
machine would see it on the command line.

Nothing is tried twice: where it is not known whether an update was published, that is said.

exit status:
    0  it was published
    1  the hub refused it or cannot be reached, or the input cannot be read
    2  the command line is wrong, or the token or key
  130  Ctrl-C
"""

# Of a token that is made here, in seconds. It is made anew when half of that is over.
_LIFETIME = 60

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

# Gives the token to publish with.
_Tokens = Callable[[], str | None]


def _milliseconds(text: str) -> int:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError
    return round(value * 1000)


_milliseconds.__name__ = "number of seconds"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        help="where the hub is: https://example.org/.well-known/mercure; @FILE reads the URL from a file",
    )
    parser.add_argument("topic", metavar="TOPIC", help="what the update is about")
    parser.add_argument("data", metavar="DATA", nargs="?", help="the data; - for stdin")
    parser.add_argument("--file", metavar="PATH", help="take the data from a file; - for stdin")
    parser.add_argument("--lines", action="store_true", help="publish an update for each line, as it comes")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        dest="topics",
        metavar="T",
        help="another name of the same; may be repeated",
    )
    parser.add_argument("--id", metavar="ID", help="the id; otherwise the hub makes one")
    parser.add_argument("--type", metavar="TYPE", help="the type of the event")
    parser.add_argument(
        "--retry", type=_milliseconds, metavar="SECONDS", help="when subscribers are to reconnect"
    )
    parser.add_argument(
        "--private", action="store_true", help="for those alone whose token allows to read the topic"
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="what holds the token")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    parser.add_argument(
        "--timeout",
        type=positive(float),
        default=30.0,
        metavar="S",
        help="how long an update may take, in seconds; 30 if nothing is said",
    )
    add_key_arguments(parser)


def _run(arguments: argparse.Namespace) -> int:
    statuses: list[int] = []

    def main(reactor: Any) -> Deferred[None]:
        make_steady(reactor)
        publishing = Deferred.fromCoroutine(publish(reactor, arguments, sys.stdin, sys.stdout, sys.stderr))
        # At Ctrl-C, before the connection is lost and that is told as an error.
        reactor.addSystemEventTrigger("before", "shutdown", publishing.cancel)
        return publishing.addCallback(statuses.append)

    try:
        task.react(main, ())
    except SystemExit as end:
        # What react makes of it: 1 for an error that nobody has thought of, which it has told.
        statuses.append(_FAILED if end.code else _INTERRUPTED)
    return statuses[0]


async def publish(
    reactor: Any,
    arguments: argparse.Namespace,
    given: TextIO | None,
    out: TextIO | None,
    err: TextIO,
    *,
    agent: IAgent | None = None,
) -> int:
    """
    Publish what the arguments, the file or ``given`` hold.

    :returns: the exit status.
    """
    try:
        given_url = read_url(arguments.url)
        url = parse_url(given_url).to_text()
        if agent is None and url.startswith("https:"):
            need_tls("https")
        data = _data(reactor, arguments, given)
        fields = _fields(arguments)
        tokens = _tokens(reactor, arguments, os.environ, given_url)
    except (InvalidOption, ValueError) as error:
        complain(err, "txsse publish", error)
        return _WRONG
    except MissingExtra as error:
        complain(err, "txsse publish", error)
        return _FAILED
    poster = Poster(reactor, url, timeout=arguments.timeout, insecure=arguments.insecure, agent=agent)
    published = 0
    problem = ""
    status = _FAILED
    try:
        async for each in data:
            id = await poster.post([*fields, ("data", each)], tokens())
            published += 1
            _print(out, id)
        status = _OK
    except CancelledError:
        status = _INTERRUPTED
    except Unwritable as error:
        problem = f"it was published, but {error}"
    except (NotPublished, BadFeed) as error:
        problem = f"line {published + 1}: {error}" if arguments.lines else str(error)
    finally:
        await poster.close()
    if arguments.lines and status != _OK:
        problem = "; ".join([*([problem] if problem else []), f"{published} published"])
    if problem:
        complain(err, "txsse publish", problem)
    return status


def _data(reactor: Any, arguments: argparse.Namespace, given: TextIO | None) -> AsyncIterator[str]:
    source = arguments.file
    if arguments.data is not None and source is not None:
        raise InvalidOption("there are DATA, and a --file too")
    if arguments.data not in (None, "-"):
        pieces = _given(arguments.data)
    elif source not in (None, "-"):
        pieces = pieces_of(reactor, partial(open_path, source), source)
    elif given is None or (given.isatty() and "-" not in (arguments.data, source)):
        raise InvalidOption("there are no data: give DATA, or --file, or - to type them")
    else:
        pieces = pieces_of(reactor, partial(open_number, given.fileno()), "stdin")
    if arguments.lines and arguments.id is not None:
        raise InvalidOption("--id is for one update, and --lines are many: each needs an id of its own")
    return lines_of(pieces) if arguments.lines else whole_of(pieces)


async def _given(data: str) -> AsyncIterator[bytes]:
    yield os.fsencode(data)


def _fields(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    fields = [("topic", topic) for topic in (arguments.topic, *arguments.topics)]
    for name in ("id", "type", "retry"):
        value = getattr(arguments, name)
        if value is not None:
            fields.append((name, str(value)))
    if arguments.private:
        fields.append(("private", "on"))
    for name, value in fields:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidOption(f"{name} is no text in UTF-8") from None
    return fields


def _tokens(reactor: Any, arguments: argparse.Namespace, environment: Mapping[str, str], url: str) -> _Tokens:
    """
    Return what gives the token: what the command line names counts more than what is in the environment.
    """
    if arguments.token_file is not None:
        if arguments.key_file is not None:
            raise InvalidOption("there are a --token-file and a --key-file; one is enough")
        try:
            return _fixed(arguments.token_file.read_text("utf-8"), str(arguments.token_file))
        except OSError as error:
            raise InvalidOption(f"{arguments.token_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InvalidOption(f"{arguments.token_file} holds no token") from None
    if arguments.key_file is None:
        if environment.get(_TOKEN_ENVIRONMENT):
            return _fixed(environment[_TOKEN_ENVIRONMENT], _TOKEN_ENVIRONMENT)
        if not environment.get(KEY_ENVIRONMENT):
            return lambda: None
    return _made(reactor, arguments, environment, url)


def _fixed(text: str, where: str) -> _Tokens:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        # Which is not shown: it may be another secret.
        raise InvalidOption(f"{where} holds no token")
    return lambda: token


def _made(reactor: Any, arguments: argparse.Namespace, environment: Mapping[str, str], url: str) -> _Tokens:
    key = choose_key(read_keys(arguments.key_file, environment), arguments.algorithm, arguments.key_id)
    made: list[tuple[float, str]] = []

    def give() -> str:
        now = wall(reactor)
        # If the system's time was set back, the token would be used long after its end by the hub's time.
        if not made or not 0 <= now - made[-1][0] <= _LIFETIME / 2:
            token = make_signed(
                key,
                publish=[arguments.topic, *arguments.topics],
                audience=arguments.audience or url,
                issuer=arguments.key_issuer,
                issued=now,
                expires=now + _LIFETIME,
                compatibility=arguments.compatibility,
            )
            made[:] = [(now, token)]
        return made[-1][1]

    # What is wrong with it is said before anything is sent.
    give()
    return give


def _print(out: TextIO | None, id: str) -> None:
    try:
        put(out, f"{id}\n")
    except Unwritable as error:
        # Whoever read the ids may have seen enough; the updates are for others, and go on.
        if not error.unread:
            raise


PUBLISH = Command("publish", "Publish to a hub.", _add_arguments, _run, _EPILOG)
