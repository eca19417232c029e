"""
The configuration of the service: its options, read from the command line, the environment and a TOML file.

Strategy: :class:`Config` is the only table of the options; all three sources are read by it. The command line
takes precedence over the environment, and the environment over the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from txsse._redact import holds_secret
from txsse.hub.hub import DEFAULT_MAX_PATTERN_WEIGHT
from txsse.journal.base import DEFAULT_AGE, DEFAULT_BYTES, DEFAULT_COUNT
from txsse.journal.retained_updates import DEFAULT_MAX_RETAINED, DEFAULT_MAX_RETAINED_BYTES
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
    SIZE_LIMIT,
    TEXT,
    OptionType,
)
from txsse.web.request_bounds import DEFAULT_MAX_BODIES

__all__ = ["DEFAULT_ENDPOINT", "BadConfig", "Config", "Option", "Sources", "options", "read_config"]

DEFAULT_ENDPOINT = "tcp:8080:interface=127.0.0.1"

_PREFIX = "TXSSE_"


class BadConfig(Exception):
    """
    The configuration is invalid; the message names the option and its source, and says what to do.
    """


@dataclass(frozen=True)
class Option:
    """
    An option of the service.

    :ivar name: its name on the command line, without the dashes.
    :ivar kind: the type of its value.
    :ivar help: its text in ``--help``.
    :ivar value: the placeholder of its value in ``--help``.
    :ivar secret: whether its value is a secret, which is refused on the command line and never shown.
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


T = TypeVar("T")


def _option(kind: OptionType, default: T, help: str, *, value: str = "", secret: bool = False) -> T:
    return field(default=default, metadata={"kind": kind, "help": help, "value": value, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    The value of each option of the service.
    """

    listen: tuple[str, ...] = _option(
        LIST,
        (DEFAULT_ENDPOINT,),
        "An endpoint to listen on, such as tcp:8080, ssl:8443:privateKey=server.pem, unix:/run/txsse.sock, "
        "or systemd:domain=INET:index=0.",
        value="ENDPOINT",
    )
    url: str | None = _option(
        TEXT,
        None,
        "The hub's URL that clients use, which may be that of a reverse proxy. Without it, the URL is "
        "derived from --listen.",
        value="URL",
    )
    journal: str = _option(
        TEXT, "memory:", f"The journal that subscribers resume from: {JOURNAL_NAMES}.", value="NAME"
    )
    journal_count: int = _option(COUNT, DEFAULT_COUNT, "How many updates the journal holds.")
    journal_bytes: int = _option(SIZE, DEFAULT_BYTES, "How many bytes of updates the journal holds.")
    journal_age: float | None = _option(INTERVAL, DEFAULT_AGE, "How long the journal holds an update.")
    retained_count: int = _option(
        COUNT,
        DEFAULT_MAX_RETAINED,
        "How many retained updates the journal holds, one for each topic and key.",
    )
    retained_bytes: int = _option(
        SIZE, DEFAULT_MAX_RETAINED_BYTES, "How many bytes of retained updates the journal holds."
    )
    retained_per_token: int | None = _option(
        LIMIT, 10_000, "How many retained updates the tokens with one sub, or else one jti, may have."
    )
    key_file: tuple[str, ...] = _option(
        LIST,
        (),
        "A file with a key that verifies tokens: a secret, a public key or certificate in PEM format, or a "
        "JSON Web Key Set.",
        value="FILE",
    )
    publish_key_file: tuple[str, ...] = _option(
        LIST, (), "A file like that of --key-file, for tokens that only publish.", value="FILE"
    )
    subscribe_key_file: tuple[str, ...] = _option(
        LIST, (), "A file like that of --key-file, for tokens that only subscribe.", value="FILE"
    )
    key: str | None = _option(TEXT, None, "The secret that signs tokens.", secret=True)
    publish_key: str | None = _option(TEXT, None, "The secret of tokens that only publish.", secret=True)
    subscribe_key: str | None = _option(TEXT, None, "The secret of tokens that only subscribe.", secret=True)
    key_issuer: str | None = _option(
        TEXT,
        None,
        "The iss claim required of tokens that the keys of --key-file or TXSSE_KEY verify. Without it, "
        "their iss is not checked.",
        value="NAME",
    )
    issuer: tuple[str, ...] = _option(
        LIST,
        (),
        "An authorization server whose tokens are accepted: the value of their iss claim. Its keys are "
        "fetched from its --jwks.",
        value="NAME",
    )
    jwks: tuple[str, ...] = _option(
        LIST,
        (),
        "The URL of the keys of an --issuer; give one for each --issuer, in the same order.",
        value="URL",
    )
    audience: tuple[str, ...] = _option(
        LIST,
        (),
        "An accepted aud claim of tokens. Without it, tokens must be for the hub's URL.",
        value="TEXT",
    )
    algorithm: tuple[str, ...] = _option(
        LIST,
        (),
        "A signature algorithm that tokens may use. Without it, they may use all that suit the keys.",
        value="NAME",
    )
    key_claim: str = _option(
        TEXT,
        "sid",
        "The claim of tokens with the key of a session, by which streams can be disconnected and tokens "
        "revoked, as by sub and jti.",
        value="NAME",
    )
    revocation_lifetime: float = _option(
        DURATION,
        30 * 86400.0,
        "How long revoked tokens are refused at least, if the request to revoke them does not say so: as "
        "long as issuers let tokens live.",
    )
    anonymous: bool = _option(
        FLAG, False, "Accept subscribers without a token. They receive no private updates."
    )
    origin: tuple[str, ...] = _option(
        ORIGINS_OR_ANY,
        (),
        "An origin whose pages may subscribe, and may publish with a token in the Authorization header.",
    )
    publish_origin: tuple[str, ...] = _option(
        ORIGINS,
        (),
        "An --origin whose pages may also publish with a token in a cookie. Pages of the hub's own origin "
        "always may.",
    )
    cookie: str = _option(
        TEXT, "__Secure-mercure_access_token", "The name of the cookie that holds a token.", value="NAME"
    )
    subscriptions: bool = _option(
        FLAG,
        False,
        "Publish subscription events, and serve the subscription API, for clients with a token for them.",
    )
    compatibility: bool = _option(FLAG, False, "Accept also clients and tokens from before Mercure 1.0.")
    debugger: bool = _option(FLAG, False, "Serve a page to try the hub with, at /. It contains no secret.")
    max_body: int = _option(SIZE, 1024 * 1024, "How many bytes the body of a request may have.")
    max_topics: int = _option(COUNT, 100, "How many topics an update may have.")
    max_matchers: int = _option(COUNT, 100, "How many matchers a subscription may have.")
    max_pattern_weight: int | None = _option(
        LIMIT,
        DEFAULT_MAX_PATTERN_WEIGHT,
        "How much the patterns of all streams may weigh together, in tenths of a KiB. Equal patterns count "
        "once. A subscription that exceeds it is refused with 503.",
    )
    max_bodies: int = _option(
        SIZE, DEFAULT_MAX_BODIES, "How many bytes the bodies of all unfinished requests may have together."
    )
    max_connections: int | None = _option(
        LIMIT,
        connections_by_files(),
        "How many connections may be open; further ones are closed at once. Without it, the process's limit "
        "of open files, less 64.",
    )
    max_streams: int | None = _option(LIMIT, None, "How many streams may be open.")
    max_streams_per_address: int | None = _option(
        LIMIT,
        None,
        "How many streams one client address may have open. Not for a hub behind a proxy, where all clients "
        "have the proxy's address.",
    )
    max_buffer: int = _option(
        SIZE, DEFAULT_MAX_BUFFER, "How many bytes to buffer for a slow reader before --slow-policy applies."
    )
    max_total_buffer: int = _option(
        SIZE, DEFAULT_MAX_TOTAL_BUFFER, "How many bytes to buffer for all slow readers together."
    )
    slow_policy: str = _option(
        TEXT,
        "replay",
        "The overflow policy for slow readers: replay lets them catch up from the journal; close, drop and "
        "latest are described at txsse.Upgrader.",
        value="NAME",
    )
    max_retained_bytes_per_stream: int | None = _option(
        SIZE_LIMIT,
        16 * 1024 * 1024,
        "How many bytes of retained updates a stream is sent when it opens. A subscription to more gets 400.",
    )
    keepalive: float | None = _option(
        INTERVAL, 15.0, "How long a stream may be silent before a comment is sent on it."
    )
    max_lifetime: float | None = _option(
        INTERVAL, 3600.0, "How long a stream lasts, less up to 20 % at random. Its client then reconnects."
    )
    request_timeout: float = _option(
        DURATION, 30.0, "How long a client may take to send a request, and to read a part of a response."
    )
    peer_timeout: float | None = _option(
        INTERVAL,
        60.0,
        "How long a client may acknowledge or read nothing of what it was sent before its connection is "
        "closed.",
    )
    shutdown_timeout: float = _option(
        DURATION,
        10.0,
        "How long clients may take to read the rest of their streams when the service stops.",
    )
    admin: tuple[str, ...] = _option(
        LIST,
        (),
        "An endpoint for /health/live, /health/ready and /metrics. Do not expose it to the public.",
        value="ENDPOINT",
    )
    access_log: str | None = _option(
        TEXT,
        None,
        "A file to log each request to, in one line; - logs to the service's own log.",
        value="FILE",
    )


def options() -> Iterator[Option]:
    """
    Return all options, in the order of the fields of :class:`Config`.
    """
    for each in fields(Config):
        data = each.metadata
        name = each.name.replace("_", "-")
        yield Option(name, data["kind"], data["help"], data["value"] or data["kind"].name, data["secret"])


@dataclass(frozen=True)
class Sources:
    """
    The three sources of options.

    :ivar given: the options of the command line, by name.
    :ivar environ: the environment.
    :ivar file: the TOML file; ``None`` if there is no file.
    """

    given: Mapping[str, object]
    environ: Mapping[str, str]
    file: Path | None = None


def read_config(sources: Sources) -> tuple[Config, Mapping[str, str]]:
    """
    Read the options from all sources.

    :returns: the configuration, and the source of each option's value, such as ``--url``, ``TXSSE_URL``,
        ``hub.toml: url`` or ``default``.
    :raises BadConfig: for an unknown option or an invalid value.
    """
    known = {option.name: option for option in options()}
    from_file = {} if sources.file is None else _read_file(sources.file)
    for name in from_file:
        if name not in known:
            raise BadConfig(f"{sources.file}: {name} is not an option; see twist txsse --help")
    _check_variables(sources.environ, known.values())
    for option in known.values():
        _check_given(option, sources.given.get(option.name))
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    for option in known.values():
        for value, place in (
            (sources.given.get(option.name), f"--{option.name}"),
            # An empty variable counts as unset: a shell, a unit or a container file leaves an option out so.
            (sources.environ.get(option.variable) or None, option.variable),
            (from_file.get(option.name), f"{sources.file}: {option.name}"),
        ):
            if value is not None and value != ():
                values[option.name.replace("-", "_")] = _read(option, value, place)
                places[option.name] = place
                break
        else:
            places[option.name] = "default"
    # Each value has the type of its option: ``read`` has checked it.
    make: Callable[..., Config] = Config
    return make(**values), places


def _check_given(option: Option, value: object) -> None:
    """
    Check that the command line contains no URL with a secret.
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
        raise BadConfig(f"{path} is not valid TOML: {error}") from None
    values: dict[str, object] = {}
    for written, value in content.items():
        name = written.replace("_", "-")
        if name in values:
            raise BadConfig(f"{path}: {name} is set twice, with - and with _; remove one of the two")
        values[name] = value
    return values


# Variables that are not options of the service: read by ``twist txsse`` itself, ``txsse`` and the tests.
_ELSEWHERE = re.compile(f"{_PREFIX}(CONFIG|TOKEN|TEST_.*)")


def _check_variables(environ: Mapping[str, str], known: Iterable[Option]) -> None:
    """
    Reject unknown ``TXSSE_*`` variables, to catch typing errors.
    """
    variables = {option.variable for option in known}
    for name in environ:
        if name.startswith(_PREFIX) and name not in variables and not _ELSEWHERE.fullmatch(name):
            raise BadConfig(f"{name} is not the variable of an option; see twist txsse --help")
