"""
``txsse token``: a hub's own verifier checks the tokens that it makes; its descriptions are compared with
texts.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.defer import Deferred

from tests.client.fakes import outcome_of
from tests.mercure.world import OTHER_SECRET, SECRET, URL, detail, sign
from tests.processes import finish, python
from txsse.cli import main
from txsse.cli.command import Command
from txsse.cli.publish import PUBLISH
from txsse.cli.token import TOKEN
from txsse.mercure import FixedKeys, Issuer, pem_key, secret_key
from txsse.mercure.auth.grants import OWN_DETAIL_TYPE, Grants
from txsse.mercure.auth.keys import Key
from txsse.mercure.auth.verify import Role, Verifier
from txsse.mercure.errors import InvalidToken
from txsse.service.config import options

HUB = ("--audience", URL)

# The claims that a Mercure 1.0 token needs.
GOOD = {"aud": URL, "exp": 9e11}


class Tokens:
    """
    Run the command.

    :ivar status: the last exit status.
    :ivar err: the last output on stderr.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        self.status = main(["token", *arguments])
        out, self.err = self._capsys.readouterr()
        return out

    def make(self, *arguments: str) -> str:
        made = self(*arguments)
        assert (self.status, self.err) == (0, "")
        (token,) = made.splitlines()
        return token

    def refused(self, *arguments: str) -> str:
        """
        Return the one line on stderr about an invalid command line.
        """
        assert (self(*arguments), self.status) == ("", 2)
        (line,) = self.err.splitlines()
        assert line.startswith("txsse token: ")
        return line


@pytest.fixture
def tokens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """
    Return the command, with a secret in the environment.
    """
    monkeypatch.setenv("TXSSE_KEY", SECRET)
    return Tokens(capsys)


def verify(
    token: str,
    role: Role = "publish",
    *,
    key: Key | None = None,
    compat: bool = False,
    audience: str = URL,
    issuer: str | None = None,
) -> Grants:
    """
    Verify a token as a hub does.
    """
    keys = FixedKeys([key or secret_key(SECRET)])
    verifier = Verifier(
        [Issuer(keys, keys, issuer, authorization_server=False)],
        base=URL,
        audience=[audience],
        compatibility=compat,
        seconds=time.time,
    )
    (grants,) = outcome_of(Deferred.fromCoroutine(verifier.verify(token, role)))
    if isinstance(grants, Exception):
        raise grants
    assert isinstance(grants, Grants)
    return grants


def claims_of(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})


def pem(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def public_pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


class MakingTests:
    def test_grants(self, tokens: Tokens) -> None:
        """
        A hub grants the topics and patterns that the options list, for publishing and for subscribing, and no
        others.
        """
        token = tokens.make(
            *HUB,
            *("--publish", "a", "--publish", "b", "--publish-pattern", "https://hub.example/p/:id"),
            *(
                "--subscribe",
                "c",
                "--subscribe-pattern",
                "https://hub.example/s/:id",
                "--payload",
                '{"n": 1}',
            ),
        )
        grants = verify(token)
        for topic in ("a", "b", "https://hub.example/p/1"):
            assert grants.publish.has([topic])
        for topic in ("c", "https://hub.example/s/1"):
            assert grants.subscribe.has([topic]) and not grants.publish.has([topic])
        assert [payload for _, payload in grants.payloads] == [{"n": 1}]

    def test_claims(self, tokens: Tokens) -> None:
        """
        The claims of a token are those of RFC 9068, with authorization details for Mercure.
        """
        token = tokens.make(*HUB, "--publish", "*", "--key-issuer", "https://i.example", "--subject", "ada")
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}
        claims = claims_of(token)
        assert (claims["iss"], claims["sub"], claims["aud"]) == ("https://i.example", "ada", URL)
        assert abs(claims["iat"] - time.time()) < 60
        assert claims["exp"] == claims["iat"] + 3600
        assert claims["authorization_details"] == [detail(["publish"], "*")]
        assert claims["jti"] != claims_of(tokens.make(*HUB))["jti"]

    def test_issuer(self, tokens: Tokens) -> None:
        """
        A hub with a --key-issuer accepts the tokens of both dialects that name it, and no others.
        """
        for given, compat in ((HUB, False), (("--compatibility",), True)):
            named = tokens.make(*given, "--publish", "a", "--key-issuer", "https://i.example")
            assert verify(named, compat=compat, issuer="https://i.example").publish.has(["a"])
            for other in (named, tokens.make(*given, "--publish", "a")):
                with pytest.raises(InvalidToken, match="its issuer \\(iss\\) is not"):
                    verify(other, compat=compat, issuer="https://j.example")

    @pytest.mark.parametrize(
        ("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 7 * 86400)]
    )
    def test_lifetime(self, tokens: Tokens, text: str, seconds: int) -> None:
        """
        The option --expires-in takes a number with a unit.
        """
        claims = claims_of(tokens.make(*HUB, "--expires-in", text))
        assert claims["exp"] - claims["iat"] == seconds

    def test_before_mercure_1(self, tokens: Tokens) -> None:
        """
        With --compatibility, a hub accepts the token as one from before Mercure 1.0, with URI templates.
        """
        token = tokens.make(
            *("--compatibility", "--expires-in", "never", "--publish", "https://x/{id}", "--subscribe", "*"),
            *("--payload", "[1]"),
        )
        assert jwt.get_unverified_header(token)["typ"] == "JWT"
        assert claims_of(token)["mercure"] == {
            "publish": ["https://x/{id}"],
            "subscribe": ["*"],
            "payload": [1],
        }
        grants = verify(token, compat=True)
        assert grants.publish.has(["https://x/7"]) and not grants.publish.has(["https://y/7"])
        assert grants.expires is None

    def test_compatibility_without_topics(self, tokens: Tokens) -> None:
        """
        With --compatibility, a token without topics can be made, and expires too.
        """
        claims = claims_of(tokens.make("--compatibility"))
        assert (claims["mercure"], claims["exp"] - claims["iat"]) == ({}, 3600)

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--publish", "a"], "--audience is missing"),
            ([*HUB, "--expires-in", "never"], "exists only before Mercure 1.0"),
            ([*HUB, "--expires-in", "0s"], "is not a time"),
            ([*HUB, "--expires-in", "1w"], "is not a time"),
            ([*HUB, "--payload", "{}"], "--payload needs --subscribe"),
            ([*HUB, "--subscribe", "a", "--payload", "{"], "--payload is not JSON"),
            ([*HUB, "--subscribe", "a", "--payload", "[" * 100_000], "--payload is not JSON"),
            ([*HUB, "--subscribe", "a", "--payload", "1"], "payload is not an object"),
            ([*HUB, "--publish", "a\n"], "control character"),
            ([*HUB, "--publish-pattern", "https://x/("], "a matcher is not valid"),
            (["--compatibility", "--publish-pattern", "https://x/:id"], "URL patterns exist since"),
            (["--compatibility", "--subscribe-pattern", "https://x/:id"], "URL patterns exist since"),
            (["--compatibility", "--subscribe", "a\n"], "control character"),
            (["--compatibility", "--disconnect"], "--disconnect and --compatibility exclude each other"),
            ([*HUB, "--subject", "x" * 513], "its sub has 513 bytes, and 512 is the limit"),
            (["--decode", "x", "--publish", "a"], "--decode makes no token"),
            (["--decode", "x", "--disconnect"], "--decode makes no token"),
        ],
    )
    def test_invalid_command_line(self, tokens: Tokens, arguments: list[str], problem: str) -> None:
        """
        A token that no hub would accept is not made, and one line says why.
        """
        assert problem in tokens.refused(*arguments)

    @pytest.mark.parametrize("audience", ["my-hub", "urn:x:hub", "http://[", ""])
    def test_audience_not_a_url(self, tokens: Tokens, audience: str) -> None:
        """
        The audience may be any text; patterns are relative to the URL of the hub.
        """
        token = tokens.make("--audience", audience, "--publish-pattern", "/books/:id")
        claims = claims_of(token)
        assert claims["aud"] == audience
        assert verify(token, audience=audience).publish.has([f"{URL[:19]}/books/7"])
        line = tokens.refused("--audience", audience, "--publish-pattern", "/books/(")
        assert "no hub would accept this token: a matcher is not valid" in line


class KeyTests:
    @pytest.mark.parametrize(
        ("make", "algorithm"),
        [
            (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (lambda: rsa.generate_private_key(65537, 2048), "RS256"),
        ],
    )
    def test_private_key(
        self, tokens: Tokens, tmp_path: Path, make: Callable[[], Any], algorithm: str
    ) -> None:
        """
        A private key signs with its first algorithm, and takes precedence over the secret in the environment.
        """
        key = make()
        path = tmp_path / "key.pem"
        path.write_bytes(pem(key))
        token = tokens.make(*HUB, "--key-file", str(path), "--key-id", "k1", "--publish", "a")
        assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k1", "typ": "at+jwt"}
        assert verify(token, key=pem_key(public_pem(key))).publish.has(["a"])

    def test_algorithm(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        The option --algorithm selects another algorithm that the key supports.
        """
        path = tmp_path / "secret"
        path.write_text("s" * 64 + "\n")
        token = tokens.make(*HUB, "--key-file", str(path), "--algorithm", "HS512")
        assert jwt.get_unverified_header(token)["alg"] == "HS512"
        verify(token, key=secret_key("s" * 64))

    def test_key_set(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        The option --key-id selects a key of a key set.
        """
        path = tmp_path / "keys.json"
        keys = [{"kty": "oct", "kid": name, "k": name * 43} for name in ("a", "b")]
        path.write_text(json.dumps({"keys": keys}))
        token = tokens.make(*HUB, "--key-file", str(path), "--key-id", "b")
        assert jwt.get_unverified_header(token)["kid"] == "b"
        assert "none of the keys has the id c" in tokens.refused(
            *HUB, "--key-file", str(path), "--key-id", "c"
        )
        assert jwt.get_unverified_header(tokens.make(*HUB, "--key-file", str(path)))["kid"] == "a"

    def test_no_key(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without a key, the error names the environment variable.
        """
        monkeypatch.setenv("TXSSE_KEY", "")
        assert "TXSSE_KEY" in tokens.refused(*HUB)

    def test_short_secret(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A secret that is too short is refused, and the error does not show it.
        """
        monkeypatch.setenv("TXSSE_KEY", "hunter2")
        line = tokens.refused(*HUB)
        assert "TXSSE_KEY: a secret needs at least 32 bytes" in line and "hunter2" not in line

    @pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
    def test_secret_shorter_than_the_hash(self, tokens: Tokens, algorithm: str) -> None:
        """
        A secret that is shorter than the hash of the selected algorithm is refused.
        """
        assert f"{algorithm} needs a secret" in tokens.refused(*HUB, "--algorithm", algorithm)

    def test_unsupported_algorithm(self, tokens: Tokens) -> None:
        """
        For an algorithm that the key does not support, the error lists those that it supports.
        """
        line = tokens.refused(*HUB, "--algorithm", "RS256")
        assert "does not support RS256; it supports HS256, HS384, HS512" in line

    def test_public_key(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        A public key is refused, since it cannot sign.
        """
        path = tmp_path / "public.pem"
        path.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
        assert "give the private key" in tokens.refused(*HUB, "--key-file", str(path))

    def test_unreadable_file(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        A key file that cannot be read is reported with its name.
        """
        assert "nowhere" in tokens.refused(*HUB, "--key-file", str(tmp_path / "nowhere"))


class DecodingTests:
    def test_grant_to_disconnect(self, tokens: Tokens) -> None:
        """
        The description of a token that allows disconnecting says so.
        """
        lines = self.show(tokens, tokens.make(*HUB, "--disconnect"), 0)
        assert "it is a Mercure 1.0 token, and allows disconnecting clients" in lines

    def show(self, tokens: Tokens, token: str, status: int, *arguments: str) -> list[str]:
        shown = tokens("--decode", token, *arguments)
        assert (tokens.status, tokens.err) == (status, "")
        return shown.splitlines()

    def test_own_token(self, tokens: Tokens) -> None:
        """
        The description of a valid token contains header, claims, version, expiry and signature.
        """
        token = tokens.make(*HUB, "--publish", "b\\ü", "--subject", 'say "é"')
        lines = self.show(tokens, token, 0)
        assert lines[:3] == ["header", "  alg: HS256", "  typ: at+jwt"]
        assert '  sub: say "é"' in lines
        assert f"  aud: {URL}" in lines
        assert any('"match": "b' in line for line in lines)
        assert lines[-3] == "it is a Mercure 1.0 token"
        assert lines[-2] in ("it expires in 59 minutes", "it expires in 60 minutes")
        assert lines[-1] == "its signature is valid for the key"

    def test_times(self, tokens: Tokens) -> None:
        """
        Times in claims are shown in ISO 8601, and other values unchanged.
        """
        lines = self.show(tokens, sign({"iat": 0, "exp": 1, "nbf": 5e11, "auth_time": "x"}), 1)
        assert "  iat: 1970-01-01T00:00:00Z" in lines
        assert "  nbf: 500000000000.0" in lines
        assert "  auth_time: x" in lines
        assert any(line.startswith("it expired ") and line.endswith(" days ago") for line in lines)
        assert any(line.startswith("it is not valid yet; it becomes valid in ") for line in lines)

    @pytest.mark.parametrize(
        ("claims", "status", "expected"),
        [
            ({"exp": None}, 1, "no hub accepts it: it has no exp"),
            ({"exp": True}, 1, "its exp is not a time"),
            ({"exp": 1e13}, 1, "its exp is not a time"),
            ({"nbf": "x"}, 1, "its nbf is not a time"),
            ({"nbf": 0}, 0, "it is a Mercure 1.0 token"),
            ({"aud": None}, 1, "no hub accepts it: it has no aud"),
            ({"aud": [1]}, 1, "no hub accepts it: its aud is not a text, such as the hub's URL"),
            ({"aud": ["x", "y"]}, 0, "it is a Mercure 1.0 token"),
            (
                {"authorization_details": [detail(["publish"])]},
                1,
                "no hub accepts it: topics is not a list of objects",
            ),
            (
                {"authorization_details": [detail(["publish"], {"match": "x", "match_type": "\x1b[2J"})]},
                1,
                "no hub accepts it: match_type is unknown",
            ),
            (
                {
                    "authorization_details": [
                        detail(["publish"], {"match": "/a/:id", "match_type": "urlpattern"})
                    ]
                },
                0,
                "it is a Mercure 1.0 token",
            ),
        ],
    )
    def test_validity(self, tokens: Tokens, claims: dict[str, Any], status: int, expected: str) -> None:
        """
        The description says whether a hub could accept the claims, and so does the exit status.
        """
        lines = self.show(tokens, sign({**GOOD, **claims}), status)
        assert expected in lines and all(line.isprintable() for line in lines)

    @pytest.mark.parametrize(
        ("claims", "status", "expected"),
        [
            ({"mercure": {}}, 0, "it never expires"),
            ({"mercure": {"publish": "*"}}, 1, "no hub accepts it: mercure.publish is not a list of strings"),
            ({"mercure": []}, 1, "no hub accepts it: mercure is not an object"),
        ],
    )
    def test_validity_before_mercure_1(
        self, tokens: Tokens, claims: dict[str, Any], status: int, expected: str
    ) -> None:
        """
        A token from before Mercure 1.0 is described as valid without an audience and without an expiry.
        """
        assert expected in self.show(tokens, sign(claims, headers={"typ": "JWT"}), status)

    @pytest.mark.parametrize("old", [True, False])
    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"exp": None},
            {"aud": None},
            {"aud": 5},
            {"authorization_details": {}},
            {"authorization_details": [5]},
            {"authorization_details": [detail(["publish"])]},
            {"authorization_details": [detail("publish", "a")]},
            {"authorization_details": [detail([], "a")]},
            {"authorization_details": [detail(["publish"], "a\n")]},
            {"authorization_details": [detail(["subscribe"], "a", payload=1)]},
            {"authorization_details": [{"type": OWN_DETAIL_TYPE, "actions": ["disconnect"]}]},
            {"authorization_details": [{"type": OWN_DETAIL_TYPE, "actions": "disconnect"}]},
            {"authorization_details": [{"type": OWN_DETAIL_TYPE}]},
            {"sub": 5},
            {"jti": "x" * 513},
            {"sid": []},
            {"mercure": 5},
            {"mercure": {"subscribe": [5]}},
            {"mercure": {"subscribe": ["a\n"]}},
        ],
    )
    def test_same_verdict_as_a_hub(self, tokens: Tokens, claims: dict[str, Any], old: bool) -> None:
        """
        The exit status is 0 exactly for the tokens that a hub accepts.
        """
        made = sign({**GOOD, "mercure": {}, **claims}, headers={"typ": "JWT"} if old else {})
        tokens("--decode", made)
        try:
            verify(made, compat=True)
        except InvalidToken:
            assert tokens.status == 1
        else:
            assert tokens.status == 0

    @pytest.mark.parametrize(
        ("typ", "claims", "status", "expected"),
        [
            ("application/AT+JWT", {}, 0, "it is a Mercure 1.0 token"),
            ("JWT", {"mercure": {}}, 0, "it is a token of the protocol before Mercure 1.0"),
            ("JWT", {}, 1, "it is not a Mercure token"),
        ],
    )
    def test_dialect(
        self, tokens: Tokens, typ: str, claims: dict[str, Any], status: int, expected: str
    ) -> None:
        """
        The description names the token's version of Mercure.
        """
        lines = self.show(tokens, sign({**GOOD, **claims}, headers={"typ": typ}), status)
        assert any(line.startswith(expected) for line in lines)

    def test_signature(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """
        The signature is compared with the key, if one is given.
        """
        foreign = sign(GOOD, key=OTHER_SECRET)
        assert self.show(tokens, foreign, 1)[-1] == "its signature is not valid for the key"
        path = tmp_path / "public.pem"
        path.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
        assert (
            self.show(tokens, foreign, 1, "--key-file", str(path))[-1]
            == "its signature is not valid for the key"
        )
        monkeypatch.delenv("TXSSE_KEY")
        assert self.show(tokens, foreign, 0)[-1].startswith("its signature was not verified")

    def test_hostile_token(self, tokens: Tokens) -> None:
        """
        Control characters in a token are escaped in its description.
        """
        token = sign({**GOOD, "\x1b[2J": "\x1b]0;x\x07\u202e\x7f\x9b", "a": ["\x1b"]})
        assert all(line.isprintable() and line.isascii() for line in self.show(tokens, token, 0))

    @pytest.mark.parametrize("text", ["{}\n", "Bearer {}", "  bearer  {} "])
    def test_from_stdin(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        """
        With --decode -, the token is read from stdin, also if it was copied from a header.
        """
        monkeypatch.setattr("sys.stdin", io.StringIO(text.format(tokens.make(*HUB))))
        assert self.show(tokens, "-", 0)[-1] == "its signature is valid for the key"

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "ä.b.c", jwt.PyJWS().encode(b"[]", SECRET, "HS256")])
    def test_not_a_token(self, tokens: Tokens, token: str) -> None:
        """
        For a text that is not a token, one line and the exit status report it.
        """
        assert tokens("--decode", token) == ""
        assert tokens.status == 1
        assert tokens.err.startswith("txsse token: this is not a JSON Web Token")

    @pytest.mark.slow
    @pytest.mark.parametrize("levels", [900, 5_000, 10_000])
    def test_many_levels(self, tokens: Tokens, levels: int) -> None:
        """
        A token with deeply nested JSON is either described, or reported as unusable, depending on the version
        of Python.
        """
        deep = f'{{"mercure": {{}}, "a": {"[" * levels}{"]" * levels}}}'
        shown = tokens("--decode", jwt.PyJWS().encode(deep.encode(), SECRET, "HS256"))
        problem = tokens.err.splitlines()
        assert (tokens.status, len(problem)) == ((0, 0) if shown else (1, 1))

    def test_too_many_levels_to_write(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A token that Python can parse but not write is reported as unusable.
        """

        def overflow(entry: Any) -> str:
            raise RecursionError

        monkeypatch.setattr("txsse.cli.explain_token._line", overflow)
        assert (tokens("--decode", sign({})), tokens.status) == ("", 1)
        assert tokens.err == "txsse token: this token is unusable: its JSON has too many nested levels\n"

    def test_bytes_on_stdin(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Bytes on stdin that are not UTF-8 are reported as not being a token.
        """
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
        assert (tokens("--decode", "-"), tokens.status) == ("", 1)
        assert tokens.err == "txsse token: this is not a JSON Web Token\n"


@pytest.mark.process
class ProcessTests:
    """
    The command in a shell, with closed streams and full devices.
    """

    def run(self, line: str, status: int) -> list[str]:
        """
        Return the lines on stderr of a shell command, in which ``txsse`` stands for the command.
        """
        command = f"{shlex.quote(sys.executable)} -m txsse"
        done = finish(["sh", "-c", line.replace("txsse", command, 1)], env={"TXSSE_KEY": SECRET})
        assert (done.returncode, done.stdout) == (status, "")
        return done.stderr.splitlines()

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (f"txsse token --audience {URL} >&-", "txsse token: stdout is closed"),
            (
                f"txsse token --decode {sign(GOOD)} >/dev/full",
                "txsse token: stdout cannot be written: No space left on device",
            ),
        ],
    )
    def test_unwritable_stdout(self, command: str, said: str) -> None:
        """
        If the output cannot be written, one line and the exit status report it.
        """
        assert self.run(command, 1) == [said]

    @pytest.mark.parametrize(
        ("redirection", "said"),
        [
            ("<&-", "txsse token: stdin is closed; --decode - reads the token from there"),
            ("0>/dev/null", "txsse token: stdin cannot be read: Bad file descriptor"),
        ],
    )
    def test_unreadable_stdin(self, redirection: str, said: str) -> None:
        """
        If stdin cannot be read, one line and the exit status report it.
        """
        assert self.run(f"txsse token --decode - {redirection}", 2) == [said]

    def test_closed_stderr(self) -> None:
        """
        If stderr is closed, the exit status still reports the failure.
        """
        assert self.run("txsse token --decode - <&- >&- 2>&-", 2) == []

    def test_unwritable_help(self) -> None:
        """
        If the help cannot be written, one line and the exit status report it.
        """
        said = "txsse: stdout cannot be written: No space left on device"
        assert self.run("txsse token --help >/dev/full", 1) == [said]

    def test_closed_pipe(self) -> None:
        """
        If the reader closes the pipe, a lost token is reported as an error, and cut help is not.
        """
        line = "txsse token --audience x | true; exit 0"
        assert self.run(line, 0) in ([], ["txsse token: stdout cannot be written: Broken pipe"])
        assert self.run("txsse --help | true; exit 0", 0) == []


WITHOUT = """
import sys
sys.modules["jwt"] = None
from txsse.cli import main
from txsse.cli.command import Command
from txsse.cli.publish import PUBLISH
from txsse.cli.token import TOKEN
sys.exit(main(sys.argv[1:]))
"""


class OptionNameTests:
    @pytest.mark.parametrize("command", [TOKEN, PUBLISH])
    def test_key_options(self, command: Command) -> None:
        """
        The options that the commands share with the service have the same names.
        """
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        own = {each for action in parser._actions for each in action.option_strings}
        shared = {f"--{option.name}" for option in options()} & own
        assert shared == {"--algorithm", "--audience", "--compatibility", "--key-file", "--key-issuer"}


class WithoutTheExtraTests:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return finish(python("-c", WITHOUT, *arguments))

    def test_missing(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without PyJWT, one line says what to install.
        """
        monkeypatch.delitem(sys.modules, "txsse.mercure.auth.mint", raising=False)
        monkeypatch.setitem(sys.modules, "jwt", None)
        assert "pip install 'txsse[mercure]'" in tokens.refused(*HUB)
        monkeypatch.undo()

    @pytest.mark.process
    def test_processes(self) -> None:
        """
        The help works without PyJWT; the commands end with one line that says what to install.
        """
        assert self.run("token", "--help").returncode == 0
        for arguments in (["token"], ["token", "--decode", "x"]):
            done = self.run(*arguments)
            assert (done.returncode, done.stdout) == (2, "")
            (line,) = done.stderr.splitlines()
            assert line.endswith("pip install 'txsse[mercure]'")
