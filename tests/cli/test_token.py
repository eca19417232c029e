"""
``txsse token``: what it makes is given to a hub's own verifier, and what it shows is read.
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
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.keys import Key
from txsse.mercure.auth.verify import Role, Verifier
from txsse.mercure.errors import InvalidToken
from txsse.service.config import options

HUB = ("--audience", URL)

# What a token of Mercure 1.0 has to say.
GOOD = {"aud": URL, "exp": 9e11}


class Tokens:
    """
    Runs the command.

    :ivar status: the last exit status.
    :ivar err: what the last run said on stderr.
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
        Return what is said of a wrong command line: one line.
        """
        assert (self(*arguments), self.status) == ("", 2)
        (line,) = self.err.splitlines()
        assert line.startswith("txsse token: ")
        return line


@pytest.fixture
def tokens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """
    The command, with a secret in the environment.
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
    def test_taken_by_a_hub(self, tokens: Tokens) -> None:
        """
        It allows what was asked for, to publish and to subscribe, and nothing else.
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
        They are those of RFC 9068, with the details of Mercure's.
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
        A hub whose key has an issuer takes the tokens that name it, of both dialects, and no others.
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
    def test_expiry(self, tokens: Tokens, text: str, seconds: int) -> None:
        """
        It is told with its unit.
        """
        claims = claims_of(tokens.make(*HUB, "--expires-in", text))
        assert claims["exp"] - claims["iat"] == seconds

    def test_before_mercure_1(self, tokens: Tokens) -> None:
        """
        A hub that understands those takes it, with templates.
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

    def test_before_mercure_1_for_nothing(self, tokens: Tokens) -> None:
        """
        A token that allows nothing can be made, for those who only read what is public; it expires, too.
        """
        claims = claims_of(tokens.make("--compatibility"))
        assert (claims["mercure"], claims["exp"] - claims["iat"]) == ({}, 3600)

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--publish", "a"], "--audience is missing"),
            ([*HUB, "--expires-in", "never"], "before Mercure 1.0 alone"),
            ([*HUB, "--expires-in", "0s"], "is no time"),
            ([*HUB, "--expires-in", "1w"], "is no time"),
            ([*HUB, "--payload", "{}"], "there is no --subscribe"),
            ([*HUB, "--subscribe", "a", "--payload", "{"], "--payload is no JSON"),
            ([*HUB, "--subscribe", "a", "--payload", "[" * 100_000], "--payload is no JSON"),
            ([*HUB, "--subscribe", "a", "--payload", "1"], "payload is not an object"),
            ([*HUB, "--publish", "a\n"], "control character"),
            ([*HUB, "--publish-pattern", "https://x/("], "a matcher is not valid"),
            (["--compatibility", "--publish-pattern", "https://x/:id"], "no URL patterns"),
            (["--compatibility", "--subscribe-pattern", "https://x/:id"], "no URL patterns"),
            (["--compatibility", "--subscribe", "a\n"], "control character"),
            (["--decode", "x", "--publish", "a"], "--decode makes no token"),
        ],
    )
    def test_wrong_command_line(self, tokens: Tokens, arguments: list[str], problem: str) -> None:
        """
        What no hub would take is not signed, and one line says why.
        """
        assert problem in tokens.refused(*arguments)

    @pytest.mark.parametrize("audience", ["my-hub", "urn:x:hub", "http://[", ""])
    def test_audience_that_is_no_url(self, tokens: Tokens, audience: str) -> None:
        """
        A hub may have any text for an audience; patterns are relative to its URL all the same.
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
        It signs with the first algorithm that it is good for, and counts more than the environment.
        """
        key = make()
        path = tmp_path / "key.pem"
        path.write_bytes(pem(key))
        token = tokens.make(*HUB, "--key-file", str(path), "--key-id", "k1", "--publish", "a")
        assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k1", "typ": "at+jwt"}
        assert verify(token, key=pem_key(public_pem(key))).publish.has(["a"])

    def test_algorithm(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        Any other that the key is good for may be asked for.
        """
        path = tmp_path / "secret"
        path.write_text("s" * 64 + "\n")
        token = tokens.make(*HUB, "--key-file", str(path), "--algorithm", "HS512")
        assert jwt.get_unverified_header(token)["alg"] == "HS512"
        verify(token, key=secret_key("s" * 64))

    def test_key_set(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        Of several keys it takes the one that is named.
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
        Without any, it says where to put one.
        """
        monkeypatch.setenv("TXSSE_KEY", "")
        assert "TXSSE_KEY" in tokens.refused(*HUB)

    def test_short_secret(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        One that is not safe is refused, whichever way the secret comes, and not shown.
        """
        monkeypatch.setenv("TXSSE_KEY", "hunter2")
        line = tokens.refused(*HUB)
        assert "TXSSE_KEY: a secret needs at least 32 bytes" in line and "hunter2" not in line

    @pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
    def test_secret_shorter_than_the_hash(self, tokens: Tokens, algorithm: str) -> None:
        """
        So is one that is good enough for other algorithms alone.
        """
        assert f"{algorithm} wants a secret" in tokens.refused(*HUB, "--algorithm", algorithm)

    def test_algorithm_that_does_not_fit(self, tokens: Tokens) -> None:
        """
        It says which would.
        """
        line = tokens.refused(*HUB, "--algorithm", "RS256")
        assert "not good for RS256; it is for HS256, HS384, HS512" in line

    def test_public_key(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        It cannot sign.
        """
        path = tmp_path / "public.pem"
        path.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
        assert "give the private key" in tokens.refused(*HUB, "--key-file", str(path))

    def test_unreadable_file(self, tokens: Tokens, tmp_path: Path) -> None:
        """
        It is named.
        """
        assert "nowhere" in tokens.refused(*HUB, "--key-file", str(tmp_path / "nowhere"))


class DecodingTests:
    def show(self, tokens: Tokens, token: str, status: int, *arguments: str) -> list[str]:
        shown = tokens("--decode", token, *arguments)
        assert (tokens.status, tokens.err) == (status, "")
        return shown.splitlines()

    def test_own_token(self, tokens: Tokens) -> None:
        """
        Header and claims are shown, and that it is good.
        """
        token = tokens.make(*HUB, "--publish", "b\\ü", "--subject", 'say "é"')
        lines = self.show(tokens, token, 0)
        assert lines[:3] == ["header", "  alg: HS256", "  typ: at+jwt"]
        assert '  sub: say "é"' in lines
        assert f"  aud: {URL}" in lines
        assert any('"match": "b' in line for line in lines)
        assert lines[-3] == "it is a token of Mercure 1.0"
        assert lines[-2] in ("it expires in 59 minutes", "it expires in 60 minutes")
        assert lines[-1] == "its signature fits the key"

    def test_times(self, tokens: Tokens) -> None:
        """
        They are shown as ISO 8601 has them, and those that are none as they are.
        """
        lines = self.show(tokens, sign({"iat": 0, "exp": 1, "nbf": 5e11, "auth_time": "x"}), 1)
        assert "  iat: 1970-01-01T00:00:00Z" in lines
        assert "  nbf: 500000000000.0" in lines
        assert "  auth_time: x" in lines
        assert any(line.startswith("it has expired ") and line.endswith(" days ago") for line in lines)
        assert any(line.startswith("it is not valid yet, but in ") for line in lines)

    @pytest.mark.parametrize(
        ("claims", "status", "expected"),
        [
            ({"exp": None}, 1, "no hub takes it: it has no exp"),
            ({"exp": True}, 1, "its exp is no time"),
            ({"exp": 1e13}, 1, "its exp is no time"),
            ({"nbf": "x"}, 1, "its nbf is no time"),
            ({"nbf": 0}, 0, "it is a token of Mercure 1.0"),
            ({"aud": None}, 1, "no hub takes it: it has no aud"),
            ({"aud": [1]}, 1, "no hub takes it: its aud is no text, such as the hub's URL"),
            ({"aud": ["x", "y"]}, 0, "it is a token of Mercure 1.0"),
            (
                {"authorization_details": [detail(["publish"])]},
                1,
                "no hub takes it: topics is not a list of objects",
            ),
            (
                {"authorization_details": [detail(["publish"], {"match": "x", "match_type": "\x1b[2J"})]},
                1,
                "no hub takes it: match_type is unknown",
            ),
            (
                {
                    "authorization_details": [
                        detail(["publish"], {"match": "/a/:id", "match_type": "urlpattern"})
                    ]
                },
                0,
                "it is a token of Mercure 1.0",
            ),
        ],
    )
    def test_validity(self, tokens: Tokens, claims: dict[str, Any], status: int, expected: str) -> None:
        """
        The exit status says whether it is good.
        """
        lines = self.show(tokens, sign({**GOOD, **claims}), status)
        assert expected in lines and all(line.isprintable() for line in lines)

    @pytest.mark.parametrize(
        ("claims", "status", "expected"),
        [
            ({"mercure": {}}, 0, "it never expires"),
            ({"mercure": {"publish": "*"}}, 1, "no hub takes it: mercure.publish is not a list of strings"),
            ({"mercure": []}, 1, "no hub takes it: mercure is not an object"),
        ],
    )
    def test_validity_before_mercure_1(
        self, tokens: Tokens, claims: dict[str, Any], status: int, expected: str
    ) -> None:
        """
        So it does for the older kind, which needs neither an audience nor an end.
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
            {"mercure": 5},
            {"mercure": {"subscribe": [5]}},
            {"mercure": {"subscribe": ["a\n"]}},
        ],
    )
    def test_as_a_hub_says(self, tokens: Tokens, claims: dict[str, Any], old: bool) -> None:
        """
        What is shown as good is taken by a hub, and what is not, is refused.
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
            ("application/AT+JWT", {}, 0, "it is a token of Mercure 1.0"),
            ("JWT", {"mercure": {}}, 0, "it is a token from before Mercure 1.0"),
            ("JWT", {}, 1, "it is no token of Mercure's"),
        ],
    )
    def test_dialect(
        self, tokens: Tokens, typ: str, claims: dict[str, Any], status: int, expected: str
    ) -> None:
        """
        It is told.
        """
        lines = self.show(tokens, sign({**GOOD, **claims}, headers={"typ": typ}), status)
        assert any(line.startswith(expected) for line in lines)

    def test_signature(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """
        Another key's does not fit; without a key it is left open.
        """
        foreign = sign(GOOD, key=OTHER_SECRET)
        assert self.show(tokens, foreign, 1)[-1] == "its signature does not fit the key"
        path = tmp_path / "public.pem"
        path.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
        assert (
            self.show(tokens, foreign, 1, "--key-file", str(path))[-1] == "its signature does not fit the key"
        )
        monkeypatch.delenv("TXSSE_KEY")
        assert self.show(tokens, foreign, 0)[-1].startswith("its signature was not looked at")

    def test_hostile_token(self, tokens: Tokens) -> None:
        """
        It cannot command the terminal.
        """
        token = sign({**GOOD, "\x1b[2J": "\x1b]0;x\x07\u202e\x7f\x9b", "a": ["\x1b"]})
        assert all(line.isprintable() and line.isascii() for line in self.show(tokens, token, 0))

    @pytest.mark.parametrize("text", ["{}\n", "Bearer {}", "  bearer  {} "])
    def test_from_stdin(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        """
        So it is seen by nobody; and it may be copied from a header.
        """
        monkeypatch.setattr("sys.stdin", io.StringIO(text.format(tokens.make(*HUB))))
        assert self.show(tokens, "-", 0)[-1] == "its signature fits the key"

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "ä.b.c", jwt.PyJWS().encode(b"[]", SECRET, "HS256")])
    def test_no_token(self, tokens: Tokens, token: str) -> None:
        """
        One line says so, and the status.
        """
        assert tokens("--decode", token) == ""
        assert tokens.status == 1
        assert tokens.err.startswith("txsse token: this is no JSON Web Token")

    @pytest.mark.parametrize("levels", [900, 5_000, 10_000])
    def test_deep(self, tokens: Tokens, levels: int) -> None:
        """
        How many levels Python reads, and how many it writes, depends on its version; what it cannot, is told.
        """
        deep = f'{{"mercure": {{}}, "a": {"[" * levels}{"]" * levels}}}'
        shown = tokens("--decode", jwt.PyJWS().encode(deep.encode(), SECRET, "HS256"))
        problem = tokens.err.splitlines()
        assert (tokens.status, len(problem)) == ((0, 0) if shown else (1, 1))

    def test_too_deep_to_write(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        What can be read and not be written is none of use.
        """

        def overflow(entry: Any) -> str:
            raise RecursionError

        monkeypatch.setattr("txsse.cli.explain_token._line", overflow)
        assert (tokens("--decode", sign({})), tokens.status) == ("", 1)
        assert tokens.err == "txsse token: this is no token of any use: it has too many levels\n"

    def test_bytes_on_stdin(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        What is no text is no token.
        """
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
        assert (tokens("--decode", "-"), tokens.status) == ("", 1)
        assert tokens.err == "txsse token: this is no JSON Web Token\n"


class ProcessTests:
    """
    What becomes of it in a shell, where streams may be closed, and devices full.
    """

    def run(self, line: str, status: int) -> list[str]:
        """
        Return what is said on stderr; ``txsse`` in the line is the command.
        """
        command = f"{shlex.quote(sys.executable)} -m txsse"
        done = finish(["sh", "-c", line.replace("txsse", command, 1)], env={"TXSSE_KEY": SECRET})
        assert (done.returncode, done.stdout) == (status, "")
        return done.stderr.splitlines()

    @pytest.mark.parametrize("arguments", [f"token --audience {URL}", f"token --decode {sign(GOOD)}"])
    @pytest.mark.parametrize(
        ("redirection", "said"),
        [
            (">&-", "txsse token: stdout is closed"),
            (">/dev/full", "txsse token: stdout cannot be written: No space left on device"),
        ],
    )
    def test_stdout(self, arguments: str, redirection: str, said: str) -> None:
        """
        One line says that nothing was printed, and the status does.
        """
        assert self.run(f"txsse {arguments} {redirection}", 1) == [said]

    @pytest.mark.parametrize(
        ("redirection", "said"),
        [
            ("<&-", "txsse token: stdin is closed; --decode - reads the token from there"),
            ("0>/dev/null", "txsse token: stdin cannot be read: Bad file descriptor"),
        ],
    )
    def test_stdin(self, redirection: str, said: str) -> None:
        """
        So it is where nothing can be read.
        """
        assert self.run(f"txsse token --decode - {redirection}", 2) == [said]

    def test_stderr(self) -> None:
        """
        Where that is closed, the status tells all the same.
        """
        assert self.run("txsse token 2>&-", 2) == []
        assert self.run("txsse token --decode - <&- >&- 2>&-", 2) == []

    @pytest.mark.parametrize("arguments", ["--help", "token --help", "--version", ""])
    def test_help(self, arguments: str) -> None:
        """
        What argparse prints has to get there, too.
        """
        said = "txsse: stdout cannot be written: No space left on device"
        assert self.run(f"txsse {arguments} >/dev/full", 1) == [said]

    def test_reader_that_has_gone(self) -> None:
        """
        A token that nobody reads was not given to anybody; half a help is help enough.
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
        What the service has an option for is spelled as there.
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
        One line says what to install.
        """
        monkeypatch.delitem(sys.modules, "txsse.mercure.auth.mint", raising=False)
        monkeypatch.setitem(sys.modules, "jwt", None)
        assert "pip install 'txsse[mercure]'" in tokens.refused(*HUB)
        monkeypatch.undo()

    def test_processes(self) -> None:
        """
        Help needs nothing of it.
        """
        assert self.run("--help").returncode == 0
        assert self.run("token", "--help").returncode == 0
        for arguments in (["token"], ["token", "--decode", "x"]):
            done = self.run(*arguments)
            assert (done.returncode, done.stdout) == (2, "")
            (line,) = done.stderr.splitlines()
            assert line.endswith("pip install 'txsse[mercure]'")
