"""
Sends one form to a path below a hub's URL: the part that commands of one request have in common.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from txsse._extras import MissingExtra, need_tls
from txsse._output import Unwritable, complain, put
from txsse._redact import without_secrets
from txsse.cli.arguments import path_below, read_url
from txsse.cli.http import Answer, Poster
from txsse.cli.key_options import InvalidOption
from txsse.cli.publish_result import NotDone
from txsse.cli.tokens import find_tokens
from txsse.client.response import parse_url

__all__ = ["INTERRUPTED", "Fields", "Form", "check_utf8", "post_form"]

# Exit statuses; argparse itself uses 2.
_OK, _FAILED, _WRONG, INTERRUPTED = 0, 1, 2, 130

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Form:
    """
    The form of a command.

    :ivar path: the path below the hub's; the command has the same name.
    :ivar success: the end of a sentence that says that the hub has carried it out.
    :ivar grants: the grants of a token that is made for it, as for :func:`txsse.cli.tokens.find_tokens`.
    """

    path: str
    success: str
    grants: Mapping[str, object]


async def post_form(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    form: Form,
    fields: Callable[[], Fields],
    judge: Callable[[Answer, str, bool], str],
    *,
    out: TextIO | None,
    err: TextIO,
    agent: IAgent | None,
) -> int:
    """
    Send a form, print the result, and return the exit status.

    :param arguments: the command's; among them the URL and those of :func:`add_token_arguments
        <txsse.cli.tokens.add_token_arguments>`.
    :param fields: returns the form's fields; raises ``InvalidOption`` for arguments that cannot be sent.
    :param judge: returns the text to print, from the response, the hub's URL, and whether a token was sent;
        raises ``NotDone`` if the hub has not carried it out.
    """
    name = f"txsse {form.path}"
    try:
        hub_url = read_url(arguments.url)
        url = parse_url(path_below(hub_url, form.path)).to_text()
        if agent is None and url.startswith("https:"):
            need_tls("https")
        given = fields()
        tokens = find_tokens(reactor, arguments, os.environ, hub_url, **form.grants)
    except (InvalidOption, ValueError) as error:
        complain(err, name, error)
        return _WRONG
    except MissingExtra as error:
        complain(err, name, error)
        return _FAILED
    poster = Poster(
        reactor,
        url,
        timeout=arguments.timeout,
        insecure=arguments.insecure,
        agent=agent,
        success=form.success,
    )
    try:
        token = tokens()
        answer = await poster.ask(given, token)
        put(out, judge(answer, without_secrets(hub_url), token is not None) + "\n")
    except CancelledError:
        return INTERRUPTED
    except Unwritable as error:
        complain(err, name, f"{form.success}, but {error}")
        return _FAILED
    except NotDone as error:
        complain(err, name, error)
        return _FAILED
    finally:
        await poster.close()
    return _OK


def check_utf8(name: str, value: str) -> None:
    """
    Check that an argument can be sent.

    :raises InvalidOption: if it is not UTF-8 text.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOption(f"{name} is not UTF-8 text") from None
