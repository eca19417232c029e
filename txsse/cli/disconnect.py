"""
The command ``txsse disconnect URL --sub NAME``: close streams at a txsse hub, and revoke their tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import TextIO

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from txsse.cli.arguments import positive
from txsse.cli.command import Command, run_in_reactor
from txsse.cli.form import INTERRUPTED, Form, check_utf8, post_form
from txsse.cli.http import Answer
from txsse.cli.key_options import KEY_ENVIRONMENT, InvalidOption
from txsse.cli.publish_result import BAD_TOKEN, NO_TOKEN, NotDone, not_a_hub, quote, when_to_retry
from txsse.cli.tokens import TOKEN_ENVIRONMENT, add_token_arguments

__all__ = ["DISCONNECT", "disconnect"]

_EPILOG = f"""\
The command closes all streams whose tokens have the subject, the ID or the key, at all nodes of the hub. The
hub refuses the tokens from now on. With --sub and --key, it accepts tokens that are issued later, so that the
user can log in again. The command prints how many streams were closed, and until when tokens are refused.

The token comes from --token-file, or from the environment variable {TOKEN_ENVIRONMENT}; txsse token
--disconnect makes one. With --key-file, or a secret in {KEY_ENVIRONMENT}, the command makes a token that is
valid for a minute; this needs: pip install 'txsse[mercure]'.

If the command fails, it may be repeated.

exit status:
    0  all nodes have closed the streams, and refuse the tokens
    1  the hub refused the request, has carried it out in part, or cannot be reached
    2  the command line, the token or the key is invalid
  130  Ctrl-C
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        help="the hub's URL, such as https://example.org/.well-known/mercure; @FILE reads it from a file",
    )
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--sub", metavar="NAME", help="the subject of the tokens (sub): the user")
    whose.add_argument("--jti", metavar="ID", help="the ID of a token (jti)")
    whose.add_argument(
        "--key",
        metavar="KEY",
        help="the key of a session: the claim sid, or the one that the hub's option --key-claim names",
    )
    parser.add_argument(
        "--expires-in",
        type=positive(int),
        metavar="SECONDS",
        help="how long tokens without an open stream may still be valid; by default the hub's own limit",
    )
    add_token_arguments(parser, "disconnect", 60.0, "the request")


def _run(arguments: argparse.Namespace) -> int:
    return run_in_reactor(
        lambda reactor: disconnect(reactor, arguments, sys.stdout, sys.stderr), interrupted=INTERRUPTED
    )


async def disconnect(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    out: TextIO | None,
    err: TextIO,
    *,
    agent: IAgent | None = None,
) -> int:
    """
    Send the request of the arguments, print the result, and return the exit status.
    """
    form = Form("disconnect", "the streams were closed and the tokens revoked", {"disconnect": True})
    fields = partial(_fields, arguments)
    return await post_form(reactor, arguments, form, fields, _judge, out=out, err=err, agent=agent)


def _fields(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    if arguments.compatibility:
        raise InvalidOption("--compatibility: a token from before Mercure 1.0 cannot allow this")
    fields = []
    for name in ("sub", "jti", "key", "expires_in"):
        value = getattr(arguments, name)
        if value is not None:
            fields.append((name, str(value)))
    for name, value in fields:
        if not value:
            raise InvalidOption(f"--{name} is empty")
        check_utf8(f"--{name}", value)
    return fields


def _judge(answer: Answer, url: str, has_token: bool) -> str:
    """
    Return the text about a successful request.

    :raises NotDone: if the hub did not carry it out completely.
    """
    kind = (answer.header("Content-Type") or "").partition(";")[0].strip().lower()
    text = answer.body.decode("utf-8", "replace").strip()
    html = "html" in kind or text[:1] == "<"
    if 200 <= answer.status < 300:
        try:
            done = json.loads(text)
            count, until = int(done["disconnected"]), str(done["refused_until"])
        except (KeyError, TypeError, ValueError, RecursionError):
            why = f"it answered {answer.status} without a result"
            raise NotDone(f"{url} is not the URL of a txsse hub: {why}") from None
        streams = "1 stream was" if count == 1 else f"{count} streams were"
        return f"{streams} closed; the tokens are refused until {quote(until)}"
    said = "" if html else quote(text)
    problem = _refusal(answer, url, has_token)
    raise NotDone(f"{problem} (the hub says: {said})" if said else problem)


def _refusal(answer: Answer, url: str, has_token: bool) -> str:
    status = answer.status
    if status == 401:
        return BAD_TOKEN if has_token else NO_TOKEN
    if status == 403:
        return "the token does not allow disconnecting; txsse token --disconnect makes one that does"
    if status in (404, 405):
        return f"{not_a_hub(url, f'it answered {status}')}; another hub than txsse cannot disconnect clients"
    if status == 501:
        return "the hub keeps no list of revoked tokens"
    if status in (429, 503):
        return f"the hub could not carry this out completely; try again {when_to_retry(answer.header)}"
    return f"the hub answered {status}"


DISCONNECT = Command(
    "disconnect", "Close streams at a hub, and revoke their tokens.", _add_arguments, _run, _EPILOG
)
