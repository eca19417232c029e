"""
The command ``txsse tail URL``: follow a stream, and print its events.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TextIO

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent

from txsse._extras import MissingExtra, need_tls
from txsse._output import Unwritable, complain, put
from txsse.cli.arguments import positive, read_headers, read_url
from txsse.cli.command import Command, run_in_reactor
from txsse.cli.format import Show, as_data, as_json, as_text, as_visible_data
from txsse.cli.insecure_tls import TrustAnyone
from txsse.cli.publish_result import INSECURE, describe, quote
from txsse.cli.state_file import read_state, write_state
from txsse.client.machine import ReadyState
from txsse.client.source import EventSource
from txsse.client.tls import is_distrust
from txsse.errors import ConnectionFailed, StreamRefused

__all__ = ["TAIL"]

# Exit statuses; argparse itself uses 2.
_OK, _FAILED, _WRONG, _TOO_FEW = 0, 1, 2, 3

_EPILOG = """\
Do not put passwords and tokens on the command line: every user of the machine can see it. Header fields such
as Authorization and Cookie, and a URL with a token, are read from files instead, as in --header @FILE.

The command reports lost connections and failed attempts on stderr, and reconnects.

exit status:
  0  --count events were printed, or --timeout has passed without --count, or Ctrl-C
  1  the server opened no stream, or its certificate is not trusted, or the stream or a file cannot be read or
     written
  2  the command line is invalid
  3  --timeout has passed before --count events were printed
"""


class Stop(Exception):
    """
    End the command.

    :ivar status: the exit status.
    :ivar message: the message on stderr; ``""`` for no message.
    """

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the URL of the stream; @FILE reads it from a file")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print each event as a JSON object on one line")
    shape.add_argument(
        "--data", action="store_true", help="print only the data; unchanged if stdout is not a terminal"
    )
    parser.add_argument(
        "--type", action="append", metavar="TYPE", help="print only events of this type; may be repeated"
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="a header field of the request; @FILE reads header fields from a file, one on each line; a "
        "redirect to another origin drops header fields; may be repeated",
    )
    parser.add_argument(
        "--last-event-id", default="", metavar="ID", help="resume after the event with this ID"
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="resume after the last event of the previous run, whose ID this file contains; the file must "
        "be a regular file or a link to one, and keeps its owner and mode",
    )
    parser.add_argument("--count", type=positive(int), metavar="N", help="end after N printed events")
    parser.add_argument("--timeout", type=positive(float), metavar="S", help="end after S seconds")
    parser.add_argument("--method", default="GET", help="the HTTP method of the request; default: GET")
    parser.add_argument("--body", help="the body of the request")
    parser.add_argument("--insecure", action="store_true", help="accept any TLS certificate of the server")


def _run(arguments: argparse.Namespace) -> int:
    # Ctrl-C is the usual end of a tail.
    return run_in_reactor(lambda reactor: follow(reactor, arguments, sys.stdout, sys.stderr), interrupted=_OK)


async def follow(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    out: TextIO | None,
    err: TextIO,
    *,
    agent: IAgent | None = None,
) -> int:
    """
    Follow a stream until an exit condition, and return the exit status.
    """
    if out is None:
        complain(err, "txsse tail", "stdout is closed; events cannot be printed")
        return _FAILED
    untrusted: list[str] = []
    try:
        source = _source(reactor, arguments, err, agent, untrusted)
    except ValueError as error:
        complain(err, "txsse tail", error)
        return _WRONG
    except MissingExtra as error:
        complain(err, "txsse tail", error)
        return _FAILED
    except OSError as error:
        complain(err, "txsse tail", f"{arguments.state}: {error.strerror}")
        return _FAILED
    opened: list[None] = []
    source.when_open().addCallbacks(opened.append, lambda failure: None)
    timer = None
    if arguments.timeout is not None:
        timer = reactor.callLater(arguments.timeout, source.close)
    try:
        await _print_all(source, arguments, out)
    except Stop as stop:
        if stop.message:
            complain(err, "txsse tail", stop.message)
        return stop.status
    except CancelledError:
        return _OK
    except Exception as error:
        complain(err, "txsse tail", _words_of(error))
        return _FAILED
    finally:
        source.close()
        if timer is not None and timer.active():
            timer.cancel()
    if untrusted:
        complain(err, "txsse tail", untrusted[0])
        return _FAILED
    # Otherwise the timer has closed it.
    if not opened:
        complain(err, "txsse tail", f"{source.url} opened no stream in {arguments.timeout:g} s")
        return _FAILED
    return _OK if arguments.count is None else _TOO_FEW


def _source(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    err: TextIO,
    agent: IAgent | None,
    untrusted: list[str],
) -> EventSource:
    url, headers = read_url(arguments.url), read_headers(arguments.header)
    if agent is None and url[:6].lower() == "https:":
        need_tls("https")
    last_event_id = arguments.last_event_id
    if arguments.state is not None:
        try:
            last_event_id = read_state(arguments.state) or last_event_id
        except UnicodeDecodeError:
            raise ValueError(f"{arguments.state}: it is not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{arguments.state}: {error}") from None
    if arguments.insecure and agent is None:
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent = Agent(reactor, contextFactory=TrustAnyone(), pool=pool)

    def report(error: Exception) -> None:
        # The caller reports the last error.
        if source.ready_state is ReadyState.CLOSED:
            return
        if is_distrust(error.__cause__):
            # The next attempt would fail in the same way.
            untrusted.append(f"{error}; {INSECURE}")
            source.close()
        else:
            seconds = round(source.reconnect_in or 0.0, 1)
            complain(err, "txsse tail", f"{_words_of(error)}; trying again in {seconds:g} s")

    source = EventSource(
        url,
        reactor=reactor,
        agent=agent,
        headers=headers,
        last_event_id=last_event_id,
        method=arguments.method.upper(),
        body=None if arguments.body is None else arguments.body.encode(),
        on_error=report,
    )
    return source


def _words_of(error: Exception) -> str:
    if isinstance(error, StreamRefused):
        said = quote(error.body)
        return f"{error} (the server says: {said})" if said else str(error)
    if isinstance(error, ConnectionFailed):
        return describe(error.__cause__, error.url) or str(error)
    return str(error)


async def _print_all(source: EventSource, arguments: argparse.Namespace, out: TextIO) -> None:
    show = _shape(arguments, out)
    printed = 0
    async for event in source:
        if not arguments.type or event.event in arguments.type:
            _print(out, show(event, datetime.now().astimezone()))
            printed += 1
        if arguments.state is not None:
            # After the printing: if the command is stopped between the two, the event is printed twice, and
            # never lost.
            try:
                write_state(arguments.state, source.last_event_id)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise Stop(_FAILED, f"{arguments.state}: {reason}") from None
        if printed == arguments.count:
            raise Stop(_OK)


def _shape(arguments: argparse.Namespace, out: TextIO) -> Show:
    if arguments.json:
        return as_json
    if arguments.data:
        return as_visible_data if out.isatty() else as_data
    return partial(as_text, colours=out.isatty() and not os.environ.get("NO_COLOR"))


def _print(out: TextIO, text: str) -> None:
    try:
        put(out, text)
    except Unwritable as error:
        raise (Stop(_OK) if error.unread else Stop(_FAILED, str(error))) from None


TAIL = Command("tail", "Follow a stream, and print its events.", _add_arguments, _run, _EPILOG)
