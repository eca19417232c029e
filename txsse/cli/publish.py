"""
The command ``txsse publish URL TOPIC [DATA]``: publish updates to a Mercure hub.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import TextIO, cast

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.web.iweb import IAgent

from txsse._extras import MissingExtra, need_tls
from txsse._output import Unwritable, complain, put
from txsse.cli.arguments import read_url
from txsse.cli.command import Command, run_in_reactor
from txsse.cli.http import Poster
from txsse.cli.input import BadFeed, lines_of, open_number, open_path, pieces_of, whole_of
from txsse.cli.key_options import KEY_ENVIRONMENT, InvalidOption
from txsse.cli.publish_result import NotDone
from txsse.cli.tokens import TOKEN_ENVIRONMENT, add_token_arguments, find_tokens
from txsse.client.response import parse_url

__all__ = ["PUBLISH", "publish"]

# Exit statuses; argparse itself uses 2.
_OK, _FAILED, _WRONG, _INTERRUPTED = 0, 1, 2, 130

_EPILOG = f"""\
DATA must directly follow TOPIC, without an option between them. If DATA is missing or -, the command reads
it from stdin. It prints the IDs of the published updates, one on each line.

The token comes from --token-file, or from the environment variable {TOKEN_ENVIRONMENT}. With --key-file, or
a secret in {KEY_ENVIRONMENT}, the command makes a token that is valid for a minute and allows publishing to
only the given topics; this needs: pip install 'txsse[mercure]'. There is no option for a token or a secret:
every user of the machine could see it on the command line.

With --retain, a txsse hub sends the newest update of each topic and key to clients that subscribe later.
txsse unretain removes it. Other hubs ignore the option.

The command never sends an update twice. If it cannot determine whether an update was published, it reports
that.

exit status:
    0  the update was published
    1  the hub refused it or cannot be reached, or the input cannot be read
    2  the command line, the token or the key is invalid
  130  Ctrl-C
"""


def _milliseconds(text: str) -> int:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError
    return round(value * 1000)


_milliseconds.__name__ = "number of seconds"


def _lifetime(text: str) -> str:
    """
    Return a number of seconds as the hub's form expects it: in digits, with at most three after the point.
    """
    value = float(text)
    if not 0.001 <= value < 1e9:
        raise ValueError
    return f"{value:.3f}".rstrip("0").rstrip(".")


_lifetime.__name__ = "positive number of seconds"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        help="the hub's URL, such as https://example.org/.well-known/mercure; @FILE reads it from a file",
    )
    parser.add_argument("topic", metavar="TOPIC", help="the topic of the update")
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help="the data of the update; - reads it from stdin"
    )
    parser.add_argument("--file", metavar="PATH", help="read the data from a file; - reads it from stdin")
    parser.add_argument(
        "--lines", action="store_true", help="publish each input line as one update, as it arrives"
    )
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        dest="topics",
        metavar="T",
        help="an alternate topic of the update; may be repeated",
    )
    parser.add_argument("--id", metavar="ID", help="the ID of the update; by default the hub makes one")
    parser.add_argument("--type", metavar="TYPE", help="the event type of the update")
    parser.add_argument(
        "--retry",
        type=_milliseconds,
        metavar="SECONDS",
        help="the reconnection delay for subscribers, in seconds",
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="deliver only to subscribers whose token allows reading the topic",
    )
    parser.add_argument(
        "--retain",
        metavar="KEY",
        help="retain the update for later subscribers, until another one with this topic and key replaces it",
    )
    parser.add_argument(
        "--retain-for",
        type=_lifetime,
        metavar="SECONDS",
        help="how long to retain it, in seconds; by default without limit",
    )
    add_token_arguments(parser, "publish", 30.0, "one update")


def _run(arguments: argparse.Namespace) -> int:
    return run_in_reactor(
        lambda reactor: publish(reactor, arguments, sys.stdin, sys.stdout, sys.stderr),
        interrupted=_INTERRUPTED,
    )


async def publish(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    stdin: TextIO | None,
    out: TextIO | None,
    err: TextIO,
    *,
    agent: IAgent | None = None,
) -> int:
    """
    Publish the data of the arguments, of the file or of ``stdin``, and return the exit status.
    """
    try:
        given_url = read_url(arguments.url)
        url = parse_url(given_url).to_text()
        if agent is None and url.startswith("https:"):
            need_tls("https")
        # Only a reactor with threads is asked to read a file.
        data = _data(cast(IReactorFromThreads, reactor), arguments, stdin)
        fields = _fields(arguments)
        topics = [arguments.topic, *arguments.topics]
        tokens = find_tokens(reactor, arguments, os.environ, given_url, publish=topics)
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
    except (NotDone, BadFeed) as error:
        problem = f"line {published + 1}: {error}" if arguments.lines else str(error)
    finally:
        await poster.close()
    if arguments.lines and status != _OK:
        problem = "; ".join([*([problem] if problem else []), f"{published} published"])
    if problem:
        complain(err, "txsse publish", problem)
    return status


def _data(
    reactor: IReactorFromThreads, arguments: argparse.Namespace, stdin: TextIO | None
) -> AsyncIterator[str]:
    source = arguments.file
    if arguments.data is not None and source is not None:
        raise InvalidOption("DATA and --file exclude each other; give one of them")
    if arguments.data not in (None, "-"):
        pieces = _from_argument(arguments.data)
    elif source not in (None, "-"):
        pieces = pieces_of(reactor, partial(open_path, source), source)
    elif stdin is None or (stdin.isatty() and "-" not in (arguments.data, source)):
        raise InvalidOption("the data is missing; give DATA, or --file, or - to type it")
    else:
        pieces = pieces_of(reactor, partial(open_number, stdin.fileno()), "stdin")
    if arguments.lines and arguments.id is not None:
        raise InvalidOption("--id is for one update, and --lines publishes many: each one needs its own ID")
    return lines_of(pieces) if arguments.lines else whole_of(pieces)


async def _from_argument(data: str) -> AsyncIterator[bytes]:
    yield os.fsencode(data)


def _fields(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    fields = [("topic", topic) for topic in (arguments.topic, *arguments.topics)]
    if arguments.retain_for is not None and arguments.retain is None:
        raise InvalidOption("--retain-for needs --retain with the key of the retained update")
    if arguments.retain == "":
        raise InvalidOption("--retain is empty; give the key of the retained update")
    for name in ("id", "type", "retry", "retain", "retain_for"):
        value = getattr(arguments, name)
        if value is not None:
            fields.append((name, str(value)))
    if arguments.private:
        fields.append(("private", "on"))
    for name, value in fields:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidOption(f"{name} is not UTF-8 text") from None
    return fields


def _print(out: TextIO | None, id: str) -> None:
    try:
        put(out, f"{id}\n")
    except Unwritable as error:
        # The reader of the IDs has closed the pipe, and may have seen enough; publishing continues.
        if not error.unread:
            raise


PUBLISH = Command("publish", "Publish updates to a Mercure hub.", _add_arguments, _run, _EPILOG)
