"""
Tests of the service's configuration: types of options, sources, precedence, errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from txsse.service.config import BadConfig, Config, Sources, options, read_config
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


def read(
    given: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> tuple[Config, Mapping[str, str]]:
    return read_config(Sources(given or {}, environ or {}, file))


def problem(**sources: Any) -> str:
    with pytest.raises(BadConfig) as raised:
        read(**sources)
    return str(raised.value)


class KindTests:
    @pytest.mark.parametrize(
        ("kind", "value", "read"),
        [
            (TEXT, "x", "x"),
            (LIST, "a  b", ("a", "b")),
            (LIST, ["a", "b c"], ("a", "b c")),
            (ORIGINS, "https://App.Example.org:443", ("https://app.example.org",)),
            (ORIGINS, ["http://a:80", "http://a:0443"], ("http://a", "http://a:443")),
            (
                ORIGINS,
                "https://[::1]:8443 capacitor://localhost",
                ("https://[::1]:8443", "capacitor://localhost"),
            ),
            (ORIGINS_OR_ANY, "* HTTPS://a:80", ("*", "https://a:80")),
            (FLAG, True, True),
            (FLAG, "Yes", True),
            (FLAG, "0", False),
            (COUNT, "12", 12),
            (COUNT, 12, 12),
            (LIMIT, "off", None),
            (LIMIT, "12", 12),
            (SIZE, "65536", 65536),
            (SIZE, "64k", 65536),
            (SIZE, "1 MiB", 1024**2),
            (SIZE, "2GB", 2 * 1024**3),
            (SIZE, 5, 5),
            (SIZE_LIMIT, "16MiB", 16 * 1024**2),
            (SIZE_LIMIT, "off", None),
            (DURATION, "15", 15.0),
            (DURATION, "1.5s", 1.5),
            (DURATION, "250ms", 0.25),
            (DURATION, "10m", 600.0),
            (DURATION, "1h", 3600.0),
            (DURATION, "7d", 604800.0),
            (DURATION, 3, 3.0),
            (INTERVAL, "off", None),
            (INTERVAL, "15", 15.0),
        ],
    )
    def test_read(self, kind: OptionType, value: Any, read: Any) -> None:
        """
        Each type of option reads its values as text, and as TOML values.
        """
        result = kind.read(value)
        assert result == read and type(result) is type(read)

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (TEXT, 5),
            (LIST, 5),
            (LIST, ["a", 5]),
            (FLAG, "maybe"),
            (FLAG, 1),
            (COUNT, "0"),
            (COUNT, 0),
            (COUNT, "off"),
            (LIMIT, "0"),
            (DURATION, "off"),
            (INTERVAL, "0"),
            (COUNT, True),
            (COUNT, "-1"),
            (COUNT, "1.5"),
            (COUNT, "١"),
            (COUNT, 1.5),
            (SIZE, "0"),
            (SIZE, "1 tonne"),
            (SIZE, True),
            (SIZE, 1.5),
            (SIZE, -1),
            (SIZE, "off"),
            (SIZE_LIMIT, "none"),
            (SIZE_LIMIT, "0"),
            (DURATION, "0"),
            (DURATION, "soon"),
            (DURATION, "1w"),
            (DURATION, True),
            (DURATION, float("inf")),
            (DURATION, float("nan")),
            (DURATION, -1),
            (DURATION, None),
        ],
    )
    def test_invalid(self, kind: OptionType, value: Any) -> None:
        """
        Each type of option refuses invalid values.
        """
        with pytest.raises(ValueError, match=r"^is "):
            kind.read(value)

    @pytest.mark.parametrize("kind", [ORIGINS, ORIGINS_OR_ANY])
    @pytest.mark.parametrize(
        "text",
        [
            "app.example.org",
            "https://app.example.org/",
            "https://app.example.org/x",
            "https://*.example.org",
            "https://me@app.example.org",
            "https://app.example.org:99999",
            "https://app.example.org:",
            "https://bücher .example",
            "null",
            "",
        ],
    )
    def test_invalid_origin(self, kind: OptionType, text: str) -> None:
        """
        A value that a browser never sends as an origin is refused, because it would match no request.
        """
        with pytest.raises(ValueError, match=r"which is not an origin; an origin is .* https://example\.org"):
            kind.read([text])

    @pytest.mark.parametrize("kind", [ORIGINS, ORIGINS_OR_ANY])
    def test_origin(self, kind: OptionType) -> None:
        """
        An origin is normalized to the form that browsers send.
        """
        texts = ["https://Bücher.example:443", "http://[0:0::1]:8080"]
        assert kind.read(texts) == ("https://xn--bcher-kva.example", "http://[::1]:8080")

    def test_any_origin(self) -> None:
        """
        --publish-origin refuses *, so that not all origins may publish with a cookie.
        """
        with pytest.raises(ValueError, match=r"holds '\*', which is not an origin"):
            ORIGINS.read("*")


class ConfigTests:
    def test_defaults(self) -> None:
        """
        By default, the service listens on loopback only and accepts no client without a token.
        """
        config, places = read()
        assert config == Config()
        assert not config.anonymous and not config.compatibility and not config.debugger
        assert config.listen == ("tcp:8080:interface=127.0.0.1",)
        assert config.key_file == () and config.admin == ()
        assert set(places.values()) == {"default"}

    def test_every_option_from_every_source(self, tmp_path: Path) -> None:
        """
        Each option can be set on the command line, in the environment and in the file.
        """
        samples = {
            TEXT: "x",
            LIST: "x",
            FLAG: "yes",
            COUNT: "7",
            SIZE: "7",
            DURATION: "7",
            LIMIT: "7",
            INTERVAL: "7",
            ORIGINS: "https://x",
            ORIGINS_OR_ANY: "https://x",
        }
        for option in options():
            file = tmp_path / "hub.toml"
            file.write_text(f'{option.name} = "{samples.get(option.kind, "7")}"')
            field = option.name.replace("-", "_")
            values = [
                getattr(read(given={option.name: samples.get(option.kind, "7")})[0], field),
                getattr(read(environ={option.variable: samples.get(option.kind, "7")})[0], field),
                getattr(read(file=file)[0], field),
            ]
            assert values[0] == values[1] == values[2] == option.kind.read(samples.get(option.kind, "7"))

    def test_every_field_is_an_option(self) -> None:
        """
        Each field of Config is an option with a help text.
        """
        named = {option.name.replace("-", "_") for option in options()}
        assert named == {field.name for field in dataclasses.fields(Config)}
        assert all(option.help.endswith(".") for option in options())

    def test_options_that_accept_off(self) -> None:
        """
        An option accepts off exactly if its field may have no value.
        """
        kinds = {option.name.replace("-", "_"): option.kind for option in options()}
        for field in dataclasses.fields(Config):
            kind = kinds[field.name]
            if kind in (COUNT, SIZE, DURATION, LIMIT, INTERVAL):
                assert ("None" in str(field.type)) == (kind in (LIMIT, INTERVAL)), field.name

    def test_precedence(self, tmp_path: Path) -> None:
        """
        The command line takes precedence over the environment, and the environment over the file.
        """
        file = tmp_path / "hub.toml"
        file.write_text('journal = "memory:"\nurl = "https://file.example/x"\nmax_streams = 5\n')
        config, places = read(
            {"journal": "sqlite:a"},
            {"TXSSE_JOURNAL": "sqlite:b", "TXSSE_URL": "https://variable.example/x"},
            file,
        )
        assert (config.journal, config.url, config.max_streams) == (
            "sqlite:a",
            "https://variable.example/x",
            5,
        )
        assert (places["journal"], places["url"]) == ("--journal", "TXSSE_URL")
        assert places["max-streams"] == f"{file}: max-streams"

    def test_empty_variable(self, tmp_path: Path) -> None:
        """
        An empty variable counts as unset: the value of the file is used.
        """
        file = tmp_path / "hub.toml"
        file.write_text('cookie = "c"\n')
        config, places = read({}, {option.variable: "" for option in options()}, file)
        assert config == Config(cookie="c")
        assert places["listen"] == "default"

    def test_other_variables(self) -> None:
        """
        Variables of other programs, and those of the command txsse, are accepted.
        """
        read(environ={"PATH": "/bin", "TXSSE_CONFIG": "x", "TXSSE_TOKEN": "x"})

    @pytest.mark.parametrize(
        ("name", "url"),
        [
            ("journal", "redis://admin:hunter2@h/0"),
            ("journal", "rediss://:hunter2@h/0"),
            ("journal", "redis+sentinel://u:hunter2@a,b/main"),
            ("journal", "unix://u:hunter2@/run/redis.sock"),
            ("journal", "redis://u:hun/ter2@h?x#hunter2@"),
            ("jwks", ["https://a/keys", "https://h/keys?token=hunter2"]),
            ("jwks", ["https://h/keys?a=b&api_key=hunter2"]),
            ("jwks", ["https://me:hunter2@h/keys"]),
            ("url", "https://me:hunter2@h/hub"),
            ("audience", ["https://h/?access_token=hunter2"]),
            ("listen", ["x:redis://me:hunter2@h"]),
        ],
    )
    def test_secret_in_url(self, name: str, url: Any) -> None:
        """
        A URL with a password or a token is refused on the command line, for every option; the error says
        where to set it.
        """
        said = problem(given={name: url})
        assert said.startswith(f"--{name}: every user of the machine can see the password or token")
        assert f"put it into TXSSE_{name.upper()}, or into the file for --config" in said
        assert "hunter2" not in said
        text = url if isinstance(url, str) else " ".join(url)
        assert read(environ={f"TXSSE_{name.upper()}": text})

    @pytest.mark.parametrize(
        ("name", "url"),
        [
            ("journal", "redis://admin@h:6379/0"),
            ("journal", "unix:///run/redis.sock?db=0"),
            ("journal", "sqlite:/var/lib/a@b:c"),
            ("jwks", ["https://h/keys?p=policy"]),
            ("listen", ["tcp:8080:interface=127.0.0.1", "ssl:1:privateKey=key.pem"]),
        ],
    )
    def test_no_secret_in_url(self, name: str, url: Any) -> None:
        """
        A URL without a secret is accepted on the command line.
        """
        assert read(given={name: url})

    @pytest.mark.parametrize(
        ("sources", "said"),
        [
            ({"given": {"max-body": "a lot"}}, "--max-body: 'a lot' is not a number of bytes"),
            ({"environ": {"TXSSE_MAX_BODY": "a lot"}}, "TXSSE_MAX_BODY: 'a lot' is not a number of bytes"),
            ({"environ": {"TXSSE_MAX_BODDY": "1"}}, "TXSSE_MAX_BODDY is not the variable of an option"),
            (
                {"environ": {"TXSSE_PUBLISH_ORIGIN": "https://a/"}},
                "TXSSE_PUBLISH_ORIGIN: 'https://a/' holds 'https://a/', which is not an origin",
            ),
        ],
    )
    def test_invalid(self, sources: dict[str, Any], said: str) -> None:
        """
        The error for an invalid value names its source and the value.
        """
        assert problem(**sources).startswith(said)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("colour = 1", "colour is not an option"),
            ("anonymous = 5", "anonymous: 5 is neither true nor false"),
            ("anonymous", "is not valid TOML"),
            (b"\xff", "is not valid TOML"),
            ("key = 5", "key: the value is not a string"),
            ("max_body = 1\nmax-body = 2", "max-body is set twice"),
        ],
    )
    def test_invalid_file(self, tmp_path: Path, content: str | bytes, said: str) -> None:
        """
        The error for an invalid file names the problem, and does not show secrets.
        """
        file = tmp_path / "hub.toml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert said in problem(file=file)

    def test_missing_file(self, tmp_path: Path) -> None:
        """
        A configuration file that does not exist is an error.
        """
        assert "cannot read" in problem(file=tmp_path / "none.toml")
