"""
The command line of ``twist txsse``, which runs a hub, or the demo, as a service.

Strategy: an invalid configuration ends the process with one line on stderr, by :exc:`SystemExit`: ``twist``
itself would print its whole usage, or a traceback. When the service stops, it ends each stream as
:meth:`txsse.SSEChannel.close` does, so that clients can distinguish the end from a lost connection.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from twisted.internet.interfaces import IReactorTime
from twisted.python import usage

from txsse._extras import MissingExtra
from txsse._output import Unwritable, put, visible
from txsse._reactor import global_reactor
from txsse._redact import without_secrets
from txsse._version import __version__
from txsse.service.config import DEFAULT_ENDPOINT, BadConfig, Config, Option, Sources, options, read_config
from txsse.service.option_types import FLAG
from txsse.service.service import HTTPService
from txsse.service.signals import take_signals

__all__ = ["Options", "makeService"]


def _taker(option: Option) -> Callable[[Options, str], None]:
    def take(self: Options, value: str) -> None:
        self[option.name] = (*(self[option.name] or ()), value)

    take.__doc__ = f"{option.help} May be repeated."
    return take


def _refuser(option: Option) -> Callable[[Options, str], None]:
    def refuse(self: Options, value: str) -> None:
        raise usage.UsageError(
            f"--{option.name} would be visible to every user of the machine; put the secret into "
            f"{option.variable}, or into a file for --{option.name}-file"
        )

    refuse.__doc__ = f"Refused: use {option.variable} or --{option.name}-file."
    return refuse


class Options(usage.Options):
    """
    The options of ``twist txsse``.
    """

    synopsis = "[--listen=ENDPOINT ...] (--demo | --key-file=FILE | --issuer=NAME --jwks=URL | --config=FILE)"
    longdesc = (
        "A hub for server-sent events. Programs in any language publish to it over HTTP, by the Mercure "
        f"protocol. Without --listen it listens on {DEFAULT_ENDPOINT}. Each option can also be set in the "
        "environment, as TXSSE_KEY_FILE for --key-file, and in the TOML file of --config. A secret itself "
        "belongs in TXSSE_KEY or in that file: every user of the machine can see a command line."
    )
    optParameters = [  # noqa: RUF012
        ["config", None, None, "A TOML file with the options of the service, such as listen or key-file."],
        *(
            [option.name, None, None, option.help]
            for option in options()
            if option.kind is not FLAG and not option.kind.many and not option.secret
        ),
    ]
    optFlags = [  # noqa: RUF012
        ["demo", None, "Serve a page with live streams, and a hub to try."],
        ["check", None, "Print the configuration that would be in force, and exit."],
        *([option.name, None, option.help] for option in options() if option.kind is FLAG),
    ]

    for _option in options():
        if _option.kind.many:
            locals()[f"opt_{_option.name.replace('-', '_')}"] = _taker(_option)
        elif _option.secret:
            # Otherwise getopt reads --key as --key-file, and an error shows the secret as the name of a file.
            locals()[f"opt_{_option.name.replace('-', '_')}"] = _refuser(_option)
    del _option

    def __init__(self) -> None:
        usage.Options.__init__(self)
        for option in options():
            if option.kind.many:
                self[option.name] = ()

    def opt_version(self) -> NoReturn:
        """
        Display the version and exit.
        """
        _print(f"txsse {__version__.public()}\n")

    def parseArgs(self, *arguments: str) -> None:  # noqa: N802
        """
        Refuse arguments that are not options.
        """
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read a command line.

        :raises SystemExit: with one line, for an invalid command line.
        """
        try:
            usage.Options.parseOptions(self, options)
        except usage.UsageError as error:
            _exit(f"{error}; see twist txsse --help")

    def sources(self) -> Sources:
        """
        Return the sources of the configuration: this command line, the environment, the file.
        """
        given: dict[str, object] = {}
        for option in options():
            value: object = self.get(option.name)
            if option.kind.many:
                value = list(self[option.name])
            elif option.kind is FLAG:
                value = bool(value)
            # An empty list and a flag that is off were not given.
            given[option.name] = value or None
        file = self["config"] or os.environ.get("TXSSE_CONFIG")
        return Sources(given, os.environ, Path(file) if file else None)


def makeService(options: Options) -> HTTPService:
    """
    Make the service.

    :param options: the parsed command line.
    :returns: the service, not started yet.
    :raises SystemExit: with one line, for an invalid configuration; and after the output of ``--check``.
    """
    reactor = global_reactor()
    demo = bool(options["demo"])
    try:
        config, places = read_config(options.sources())
        if demo:
            _check_demo(places)
        made = _maker(demo=demo)(config, reactor)
        if options["check"]:
            _check(config, places, demo=demo)
    except BadConfig as error:
        _exit(str(error))
    take_signals(reactor)
    return made


def _maker(*, demo: bool) -> Callable[[Config, IReactorTime], HTTPService]:
    # Imported here because the hub needs optional packages, which the demo works without.
    if demo:
        from txsse.service.demo import make_demo

        return make_demo
    try:
        from txsse.service.build import make_hub
    except MissingExtra as error:
        raise BadConfig(f"{error}; or try --demo") from None
    return make_hub


def _check_demo(places: Mapping[str, str]) -> None:
    """
    Refuse options on the command line that the demo would ignore.
    """
    from txsse.service.demo import TAKEN

    for name, place in places.items():
        if place.startswith("--") and name not in TAKEN:
            raise BadConfig(f"{place}: the demo accepts only --listen and --journal")


def _check(config: Config, places: Mapping[str, str], *, demo: bool) -> NoReturn:
    from txsse.service.check import describe_config

    if demo:
        from txsse.service.demo import TAKEN

        text = describe_config(config, places, taken=TAKEN)
    else:
        from txsse.service.issuers import describe_keys

        text = describe_config(config, places, describe_keys(config))
    _print(text)


def _print(text: str) -> NoReturn:
    try:
        put(sys.stdout, text)
    except Unwritable as error:
        if not error.unread:
            _exit(str(error))
    raise SystemExit(0)


def _exit(problem: str) -> NoReturn:
    # One line, even if the error has several.
    raise SystemExit("twist txsse: " + visible(" ".join(without_secrets(problem).split())))
