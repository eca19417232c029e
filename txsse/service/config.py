"""
What the service is told: on the command line, in the environment, and in a file.

Strategy: :class:`Config` is the one table of all options; the command line, the environment and the file are
read by it. The command line counts before the environment, and that before the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from txsse._redact import holds_secret
from txsse.hub.hub import DEFAULT_MAX_PATTERN_WEIGHT
from txsse.journal.base import DEFAULT_AGE, DEFAULT_BYTES, DEFAULT_COUNT
from txsse.journal.urls import JOURNAL_NAMES
from txsse.server.upgrade import DEFAULT_MAX_BUFFER, DEFAULT_MAX_TOTAL_BUFFER
from txsse.service.bounds import connections_by_files
from txsse.service.option_types import (
    COUNT,
    DURATION,
    FLAG,
    INTERVAL,
    LIMIT,
    LIST,
    ORIGINS,
    ORIGINS_OR_ANY,
    SIZE,
    TEXT,
    OptionType,
)
from txsse.web.request_bounds import DEFAULT_MAX_BODIES

__all__ = ["DEFAULT_ENDPOINT", "BadConfig", "Config", "Option", "Sources", "options", "read_config"]

DEFAULT_ENDPOINT = "tcp:8080:interface=127.0.0.1"

_PREFIX = "TXSSE_"


class BadConfig(Exception):
    """
    The service cannot be as it was told; the message says which option, where it stands, and what to do.
    """


@dataclass(frozen=True)
class Option:
    """
    An option.

    :ivar name: how it is written on the command line, without the dashes.
    :ivar secret: whether its value is nobody's business: not for the command line, and never shown.
    """

    name: str
    kind: OptionType
    help: str
    value: str
    secret: bool

    @property
    def variable(self) -> str:
        """
        The name of its environment variable.
        """
        return _PREFIX + self.name.replace("-", "_").upper()


def _option(kind: OptionType, default: object, help: str, *, value: str = "", secret: bool = False) -> Any:
    return field(default=default, metadata={"kind": kind, "help": help, "value": value, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    What the service is told.
    """

    listen: tuple[str, ...] = _option(
        LIST,
        (DEFAULT_ENDPOINT,),
        "An endpoint to listen on, such as tcp:8080, ssl:8443:privateKey=server.pem, unix:/run/txsse.sock, "
        "or systemd:domain=INET:index=0.",
        value="ENDPOINT",
    )
    url: str | None = _option(
        TEXT, None, "The hub's URL as clients see it, behind whatever stands in front.", value="URL"
    )
    journal: str = _option(
        TEXT, "memory:", f"What those who come back resume from: {JOURNAL_NAMES}.", value="NAME"
    )
    journal_count: int = _option(COUNT, DEFAULT_COUNT, "How many updates the journal holds.")
    journal_bytes: int = _option(SIZE, DEFAULT_BYTES, "How many bytes they take.")
    journal_age: float | None = _option(INTERVAL, DEFAULT_AGE, "For how long it holds one.")
    key_file: tuple[str, ...] = _option(
        LIST,
        (),
        "A key that tokens are signed with: a secret, a public key or certificate in PEM format, or a JSON "
        "Web Key Set.",
        value="FILE",
    )
    publish_key_file: tuple[str, ...] = _option(
        LIST, (), "The same for tokens that publish alone.", value="FILE"
    )
    subscribe_key_file: tuple[str, ...] = _option(
        LIST, (), "The same for tokens that subscribe alone.", value="FILE"
    )
    key: str | None = _option(TEXT, None, "The secret itself.", secret=True)
    publish_key: str | None = _option(TEXT, None, "The secret of tokens that publish.", secret=True)
    subscribe_key: str | None = _option(TEXT, None, "The secret of tokens that subscribe.", secret=True)
    key_issuer: str | None = _option(
        TEXT,
        None,
        "The iss that tokens must have whose keys are those of --key-file or TXSSE_KEY. Without it, their "
        "iss is not checked.",
        value="NAME",
    )
    issuer: tuple[str, ...] = _option(
        LIST,
        (),
        "An authorization server whose tokens are trusted: what they have as iss. Its keys are at --jwks.",
        value="NAME",
    )
    jwks: tuple[str, ...] = _option(
        LIST, (), "Where the keys of an --issuer are; one for each, in the same order.", value="URL"
    )
    audience: tuple[str, ...] = _option(
        LIST, (), "What tokens have to be meant for, if not for the URL of the hub.", value="TEXT"
    )
    algorithm: tuple[str, ...] = _option(
        LIST, (), "What tokens may be signed with; without it, all that the keys are good for.", value="NAME"
    )
    anonymous: bool = _option(
        FLAG, False, "Let subscribers without a token in. Private updates are not for them."
    )
    origin: tuple[str, ...] = _option(
        ORIGINS_OR_ANY,
        (),
        "An origin whose pages may subscribe, and publish by a token that they have.",
    )
    publish_origin: tuple[str, ...] = _option(
        ORIGINS, (), "One of them whose pages may publish by a cookie, too; the hub's own may."
    )
    cookie: str = _option(TEXT, "__Secure-mercure_access_token", "The cookie with a token.", value="NAME")
    subscriptions: bool = _option(
        FLAG, False, "Tell of subscriptions by updates, and list them, to those with a token for that."
    )
    compatibility: bool = _option(FLAG, False, "Understand clients and tokens from before Mercure 1.0, too.")
    debugger: bool = _option(FLAG, False, "Serve a page for trying the hub, at /. It holds no secret.")
    max_body: int = _option(SIZE, 1024 * 1024, "How many bytes a publication may have.")
    max_topics: int = _option(COUNT, 100, "How many topics an update may have.")
    max_matchers: int = _option(COUNT, 100, "How many matchers a subscription may have.")
    max_pattern_weight: int | None = _option(
        LIMIT,
        DEFAULT_MAX_PATTERN_WEIGHT,
        "How much all patterns that streams hold may weigh, each counted once, in tenths of a KiB; a "
        "subscription that needs more is refused with 503.",
    )
    max_bodies: int = _option(
        SIZE, DEFAULT_MAX_BODIES, "How many bytes the bodies of all unfinished requests may have together."
    )
    max_connections: int | None = _option(
        LIMIT,
        connections_by_files(),
        "How many connections there may be; more are closed at once. Without it, as many as the process may "
        "have files, less 64.",
    )
    max_streams: int | None = _option(LIMIT, None, "How many streams there may be.")
    max_streams_per_address: int | None = _option(
        LIMIT, None, "How many of one address; not behind a proxy, where all have the same."
    )
    max_buffer: int = _option(
        SIZE, DEFAULT_MAX_BUFFER, "How many bytes are held back for a client, with --slow-policy."
    )
    max_total_buffer: int = _option(SIZE, DEFAULT_MAX_TOTAL_BUFFER, "How many for all of them.")
    slow_policy: str = _option(
        TEXT,
        "replay",
        "What happens to a client that is behind: replay has it read on from the journal; close, drop and "
        "latest are what they are in txsse.Upgrader.",
        value="NAME",
    )
    keepalive: float | None = _option(INTERVAL, 15.0, "The longest silence on a stream.")
    max_lifetime: float | None = _option(
        INTERVAL, 3600.0, "When a stream ends, less up to 20 % at random, so that its client comes again."
    )
    request_timeout: float = _option(
        DURATION, 30.0, "How long a client may take to send a request, and to read a part of an answer."
    )
    peer_timeout: float | None = _option(
        INTERVAL,
        60.0,
        "When to close the connection of a client that acknowledges or reads nothing of what it was sent.",
    )
    shutdown_timeout: float = _option(
        DURATION, 10.0, "How long clients may take to read what is left when the service stops."
    )
    admin: tuple[str, ...] = _option(
        LIST,
        (),
        "An endpoint for /health/live, /health/ready and /metrics, which is not for the public.",
        value="ENDPOINT",
    )
    access_log: str | None = _option(
        TEXT, None, "A file that gets a line for each request; - is the service's own log.", value="FILE"
    )


def options() -> Iterator[Option]:
    """
    Return all options.
    """
    for each in fields(Config):
        told = each.metadata
        name = each.name.replace("_", "-")
        yield Option(name, told["kind"], told["help"], told["value"] or told["kind"].name, told["secret"])


@dataclass(frozen=True)
class Sources:
    """
    Where values come from.

    :ivar given: what the command line has, by the options' names.
    :ivar environ: the environment.
    :ivar file: the file; ``None`` for none.
    """

    given: Mapping[str, object]
    environ: Mapping[str, str]
    file: Path | None = None


def read_config(sources: Sources) -> tuple[Config, Mapping[str, str]]:
    """
    Read everything.

    :returns: what the service is told, and for each option where that stands; for those that stand nowhere,
        ``default``.
    :raises BadConfig: where anything is wrong.
    """
    known = {option.name: option for option in options()}
    from_file = {} if sources.file is None else _read_file(sources.file)
    for name in from_file:
        if name not in known:
            raise BadConfig(f"{sources.file}: {name} is no option; see twist txsse --help")
    _check_variables(sources.environ, known.values())
    for option in known.values():
        _check_given(option, sources.given.get(option.name))
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for option in known.values():
        for value, place in (
            (sources.given.get(option.name), f"--{option.name}"),
            # One that is empty is none: that is how a shell, a unit or a container's file leaves one out.
            (sources.environ.get(option.variable) or None, option.variable),
            (from_file.get(option.name), f"{sources.file}: {option.name}"),
        ):
            if value is not None and value != ():
                values[option.name.replace("-", "_")] = _read(option, value, place)
                places[option.name] = place
                break
        else:
            places[option.name] = "default"
    return Config(**values), places


def _check_given(option: Option, value: object) -> None:
    """
    See that the command line holds no secret within a URL.
    """
    given = value if isinstance(value, list) else [value]
    if any(isinstance(each, str) and holds_secret(each) for each in given):
        raise BadConfig(
            f"--{option.name}: every user of the machine can see the password or token in this URL; put it "
            f"into {option.variable}, or into the file for --config"
        )


def _read(option: Option, value: object, place: str) -> object:
    try:
        return option.kind.read(value)
    except ValueError as error:
        shown = "the value" if option.secret else repr(value)
        raise BadConfig(f"{place}: {shown} {error}") from None


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"cannot read {path} ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is no TOML: {error}") from None
    values: dict[str, object] = {}
    for written, value in content.items():
        name = written.replace("_", "-")
        if name in values:
            raise BadConfig(f"{path}: {name} is there twice, with - and with _; take one of them away")
        values[name] = value
    return values


# What other programs of ours read.
_ELSEWHERE = re.compile(f"{_PREFIX}(CONFIG|TOKEN|TEST_.*)")


def _check_variables(environ: Mapping[str, str], known: Iterable[Option]) -> None:
    """
    See that no variable is misspelled.
    """
    variables = {option.variable for option in known}
    for name in environ:
        if name.startswith(_PREFIX) and name not in variables and not _ELSEWHERE.fullmatch(name):
            raise BadConfig(f"{name} is the variable of no option; see twist txsse --help")
