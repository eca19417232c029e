"""
The command ``txsse unretain URL TOPIC KEY``: remove a retained update from a txsse hub.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TextIO

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from txsse.cli.command import Command, run_in_reactor
from txsse.cli.form import INTERRUPTED, Form, check_utf8, post_form
from txsse.cli.http import Answer
from txsse.cli.key_options import KEY_ENVIRONMENT, InvalidOption
from txsse.cli.publish_result import NotDone, judge, quote
from txsse.cli.tokens import TOKEN_ENVIRONMENT, add_token_arguments

__all__ = ["UNRETAIN", "unretain"]

_EPILOG = f"""\
The command removes the update that was published with --retain KEY, under each of the topics. The hub sends
their subscribers an event of the type unretain, whose data is the key. The command prints the ID of that
event.

The token is one that allows publishing to the topics. It comes from --token-file, or from the environment
variable {TOKEN_ENVIRONMENT}. With --key-file, or a secret in {KEY_ENVIRONMENT}, the command makes a token
that is valid for a minute; this needs: pip install 'txsse[mercure]'.

exit status:
    0  the retained update was removed
    1  no such update is retained, or the hub refused the request or cannot be reached
    2  the command line, the token or the key is invalid
  130  Ctrl-C
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        help="the hub's URL, such as https://example.org/.well-known/mercure; @FILE reads it from a file",
    )
    parser.add_argument("topic", metavar="TOPIC", help="the topic of the retained update")
    parser.add_argument("key", metavar="KEY", help="the key that it was published with")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        dest="topics",
        metavar="T",
        help="another topic under which to remove the key; may be repeated",
    )
    parser.add_argument("--id", metavar="ID", help="the ID of the event; by default the hub makes one")
    parser.add_argument(
        "--private",
        action="store_true",
        help="for a private update: send the event only to subscribers whose token allows reading the topic",
    )
    add_token_arguments(parser, "publish", 30.0, "the request")


def _run(arguments: argparse.Namespace) -> int:
    return run_in_reactor(
        lambda reactor: unretain(reactor, arguments, sys.stdout, sys.stderr), interrupted=INTERRUPTED
    )


async def unretain(
    reactor: IReactorTime,
    arguments: argparse.Namespace,
    out: TextIO | None,
    err: TextIO,
    *,
    agent: IAgent | None = None,
) -> int:
    """
    Send the request of the arguments, print the ID, and return the exit status.
    """
    topics = [arguments.topic, *arguments.topics]

    def judge_answer(answer: Answer, url: str, has_token: bool) -> str:
        return _judge(answer, url=url, topics=topics, has_token=has_token)

    form = Form("unretain", "the retained update was removed", {"publish": topics})
    fields = partial(_fields, arguments, topics)
    return await post_form(reactor, arguments, form, fields, judge_answer, out=out, err=err, agent=agent)


def _fields(arguments: argparse.Namespace, topics: list[str]) -> list[tuple[str, str]]:
    if not arguments.key:
        raise InvalidOption("KEY is empty; give the key of the retained update")
    fields = [*(("topic", topic) for topic in topics), ("key", arguments.key)]
    if arguments.id is not None:
        fields.append(("id", arguments.id))
    if arguments.private:
        fields.append(("private", "on"))
    for name, value in fields:
        check_utf8(name, value)
    return fields


def _judge(answer: Answer, *, url: str, topics: list[str], has_token: bool) -> str:
    """
    Return the ID of the event about the removal.

    :raises NotDone: if nothing was removed.
    """
    if answer.status in (404, 405):
        # A hub that retains no updates has no such path, and also answers 404.
        said = quote(answer.body.decode("utf-8", "replace"))
        problem = f"no such update is retained, or {url} is not a txsse hub that retains updates"
        raise NotDone(f"{problem} (the hub says: {said})" if said else problem)
    if answer.status == 501:
        raise NotDone("the journal of the hub does not retain updates, so it has nothing to remove")
    return judge(answer.status, answer.header, answer.body, url=url, topics=topics, has_token=has_token)


UNRETAIN = Command("unretain", "Remove a retained update from a hub.", _add_arguments, _run, _EPILOG)
