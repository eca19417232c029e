"""
Tests of the verification of tokens: form, signature, issuer, audience, times and the cache.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from string import ascii_letters, digits
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.hub.fakes import outcome_of, result_of
from tests.mercure.signers import ec_key, ed_key, jwk, jwks, public_pem, rsa_key
from tests.mercure.world import OTHER_SECRET, SECRET, URL, detail, old_token, sign, token
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.keys import BadKey, Key, jwks_keys, pem_key, secret_key
from txsse.mercure.auth.verify import FixedKeys, Issuer, Role, Verifier, shared_secret
from txsse.mercure.errors import InvalidToken

NOW = 1_000.0
CLAIMS = {"aud": URL, "exp": 3600, "authorization_details": [detail(["publish"], "news")]}

OTHER_AUDIENCE = f"its audience (aud) is not this hub's: {URL}"


class Time:
    """
    A clock that the test sets.
    """

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class CountingKeys:
    """
    A source of keys that records its calls, whose keys can change, and which can hold calls.
    """

    known = True

    def __init__(self, *keys: Key) -> None:
        self.version = 0
        self.keys: Sequence[Key] = keys
        self.asked: list[str | None] = []
        self.held: list[Deferred[None]] | None = None

    async def find(self, id: str | None) -> Sequence[Key]:
        self.asked.append(id)
        if self.held is not None:
            self.held.append(Deferred())
            await self.held[-1]
        return self.keys

    def change(self, *keys: Key) -> None:
        self.keys = keys
        self.version += 1


def verifier(*issuers: Issuer, **options: Any) -> Verifier:
    """
    Return a verifier; without issuers, it trusts one shared secret.
    """
    given: dict[str, Any] = {"base": URL, "audience": [URL], "seconds": lambda: NOW, **options}
    return Verifier(issuers or [shared_secret(SECRET)], **given)


def holding(*keys: Key, name: str | None = None) -> Issuer:
    """
    Return an issuer with the same keys for publishers and subscribers.
    """
    fixed = FixedKeys(keys)
    return Issuer(fixed, fixed, name)


def verify(by: Verifier, token: str, role: Role = "publish") -> Grants:
    """
    Return what a token grants.
    """
    return result_of(Deferred.fromCoroutine(by.verify(token, role)))


def refused(by: Verifier, token: str, role: Role = "publish") -> str:
    """
    Check that a token is refused, and return the reason.
    """
    with pytest.raises(InvalidToken) as raised:
        verify(by, token, role)
    return raised.value.reason


def takes(by: Verifier, token: str, role: Role = "publish") -> bool:
    """
    Return whether a token is valid and grants publishing to the topic news.
    """
    try:
        grants = verify(by, token, role)
    except InvalidToken:
        return False
    assert grants.publish.has(["news"])
    return True


def part(content: bytes | str | Mapping[str, Any]) -> str:
    """
    Return one encoded part of a token.
    """
    if isinstance(content, Mapping):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def forge(
    header: bytes | str | Mapping[str, Any], claims: bytes | str | Mapping[str, Any], secret: bytes | str
) -> str:
    """
    Sign any header and claims with HMAC, including those that no library would sign.
    """
    signed = f"{part(header)}.{part(claims)}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{signed}.{part(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


def signature_of(token: str) -> bytes:
    """
    Return a token's decoded signature.
    """
    written = token.rsplit(".", 1)[-1]
    return base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))


@cache
def signed_once(algorithm: str) -> tuple[Key, str]:
    """
    Return a key and a valid token, always the same one: ECDSA signatures are random, and Hypothesis needs
    reproducible examples.
    """
    private: Any = {"HS256": SECRET, "ES256": ec_key(), "EdDSA": ed_key()}[algorithm]
    key = secret_key(private) if isinstance(private, str) else pem_key(public_pem(private))
    return key, sign(CLAIMS, key=private, algorithm=algorithm)


HEADER = {"typ": "at+jwt", "alg": "HS256"}
ALPHABET = ascii_letters + digits + "-_=."


class GoodTests:
    def test_grants(self) -> None:
        """
        A valid token returns its grants and its expiry.
        """
        details = [detail(["publish"], "news"), detail(["subscribe"], "sport")]
        grants = verify(verifier(), sign({**CLAIMS, "authorization_details": details}))
        assert (grants.publish.exact, grants.subscribe.exact, grants.expires) == (
            ("news",),
            ("sport",),
            3600.0,
        )

    def test_forged_here(self) -> None:
        """
        A token that these tests sign themselves is valid, so the refusals below have no other reason.
        """
        assert takes(verifier(), forge(HEADER, CLAIMS, SECRET))

    @pytest.mark.parametrize(
        ("private", "algorithm"),
        [
            (rsa_key(), "RS256"),
            (rsa_key(), "RS512"),
            (rsa_key(), "PS384"),
            (ec_key(), "ES256"),
            (ec_key(ec.SECP384R1), "ES384"),
            (ec_key(ec.SECP521R1), "ES512"),
            (ed_key(), "EdDSA"),
        ],
    )
    def test_public_keys(self, private: Any, algorithm: str) -> None:
        """
        A token is accepted with a public key of each algorithm, and refused with another key of that kind.
        """
        by = verifier(holding(pem_key(public_pem(private))))
        assert takes(by, sign(CLAIMS, key=private, algorithm=algorithm))
        others = {"R": rsa_key("b"), "P": rsa_key("b"), "E": ed_key("b")}
        other = ec_key(type(private.curve), "b") if algorithm.startswith("ES") else others[algorithm[0]]  # type: ignore[arg-type]
        assert "none of the keys" in refused(by, sign(CLAIMS, key=other, algorithm=algorithm))

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    @pytest.mark.filterwarnings("ignore::Warning")
    def test_secrets(self, algorithm: str) -> None:
        """
        A secret verifies HS256, HS384 and HS512.
        """
        assert takes(verifier(), sign(CLAIMS, algorithm=algorithm))
        assert not takes(verifier(), sign(CLAIMS, key=OTHER_SECRET, algorithm=algorithm))

    def test_any_of_the_keys(self) -> None:
        """
        An issuer may have several keys at a time, of one kind or of several.
        """
        keys = [secret_key(SECRET), secret_key(OTHER_SECRET), pem_key(public_pem(ec_key()))]
        by = verifier(holding(*keys))
        assert takes(by, sign(CLAIMS))
        assert takes(by, sign(CLAIMS, key=OTHER_SECRET))
        assert takes(by, sign(CLAIMS, key=ec_key(), algorithm="ES256"))


class FormTests:
    @pytest.mark.parametrize(
        "token",
        [
            "",
            ".",
            "..",
            "...",
            "a",
            "a.b",
            "a.b.c",
            sign(CLAIMS) + ".",
            sign(CLAIMS) + "." + part("{}"),
            sign(CLAIMS).rsplit(".", 1)[0],
            sign(CLAIMS).split(".", 1)[1],
            sign(CLAIMS).replace(".", ",", 1),
            "\udcff" + sign(CLAIMS),
            forge("", CLAIMS, SECRET),
            forge("[]", CLAIMS, SECRET),
            forge('"at+jwt"', CLAIMS, SECRET),
            forge("null", CLAIMS, SECRET),
            forge(b"\xff", CLAIMS, SECRET),
            forge("[" * 5000, CLAIMS, SECRET),
            forge(HEADER, "", SECRET),
            forge(HEADER, b"\xff", SECRET),
            forge(HEADER, "{", SECRET),
            forge(HEADER, "[" * 5000, SECRET),
            forge(HEADER, '{"exp": NaN}', SECRET),
            forge(HEADER, '{"exp": Infinity}', SECRET),
            forge(HEADER, '{"a": -Infinity}', SECRET),
            forge(HEADER, '{"exp": ' + "9" * 5000 + "}", SECRET),
        ],
    )
    def test_no_token(self, token: str) -> None:
        """
        A text that does not consist of three parts of base64 and JSON is refused as a token, even if it is
        signed.
        """
        assert refused(verifier(), token) == "it is not a JSON Web Token"

    @pytest.mark.parametrize("deep", ['{"a":' * 2000 + "1" + "}" * 2000])
    def test_deep(self, deep: str) -> None:
        """
        A token with deeply nested JSON is refused, whether or not this Python can read it.
        """
        assert refused(verifier(), forge(deep, CLAIMS, SECRET))
        assert refused(verifier(), forge(HEADER, deep, SECRET))

    @pytest.mark.parametrize("more", [" ", "\t", "é", "=", "\0", "Bearer "])
    def test_surrounding_characters(self, more: str) -> None:
        """
        Characters before or within a token make it invalid, even if lenient base64 readers skip them.
        """
        assert not takes(verifier(), more + sign(CLAIMS))
        assert not takes(verifier(), sign(CLAIMS).replace(".", more + ".", 1))

    @pytest.mark.parametrize("claims", ["[]", "null", "7", '"a"'])
    def test_claims_that_are_no_object(self, claims: str) -> None:
        """
        A token whose claims are not an object is refused.
        """
        assert refused(verifier(), forge(HEADER, claims, SECRET)) == "its claims are not an object"

    def test_too_long(self) -> None:
        """
        A token of 16384 characters is accepted, and a longer one refused.
        """
        room = 16384 - len(forge(HEADER, {**CLAIMS, "pad": ""}, SECRET))
        long = forge(HEADER, {**CLAIMS, "pad": "x" * (room * 3 // 4)}, SECRET)
        assert len(long) == 16384
        assert takes(verifier(), long)
        assert refused(verifier(), long + "x") == "it has more than 16384 characters"

    def test_reasons_are_logged(self, logged: list[LogEvent]) -> None:
        """
        The reason for a refusal is logged without the token, which may be valid elsewhere.
        """
        given = sign(CLAIMS, key=OTHER_SECRET)
        refused(verifier(), given, "subscribe")
        (event,) = [event for event in logged if "problem" in event]
        assert (event["role"], event["problem"]) == ("subscribe", "none of the keys verifies its signature")
        assert given not in str(event)


class AlgorithmTests:
    @pytest.mark.parametrize(
        "name", ["none", "None", "NONE", "nOnE", "", " none", "hs256", "HS256 ", "HS1", "RS1"]
    )
    def test_none(self, name: str) -> None:
        """
        Unsigned tokens are refused in every spelling of none, and so are unknown algorithms.
        """
        for signature in ("", part("x"), forge(HEADER, CLAIMS, SECRET).rsplit(".")[-1]):
            unsigned = f"{part({**HEADER, 'alg': name})}.{part(CLAIMS)}.{signature}"
            assert refused(verifier(), unsigned) == "its algorithm is not allowed"

    @pytest.mark.parametrize("name", [None, 7, True, ["HS256"], {"HS256": 1}])
    def test_no_text(self, name: Any) -> None:
        """
        A token whose alg is not a string is refused.
        """
        assert (
            refused(verifier(), forge({**HEADER, "alg": name}, CLAIMS, SECRET))
            == "its algorithm is not allowed"
        )

    def test_missing(self) -> None:
        """
        A token without alg is refused, even if only one algorithm is allowed.
        """
        by = verifier(algorithms=["HS256"])
        assert refused(by, forge({"typ": "at+jwt"}, CLAIMS, SECRET)) == "its algorithm is not allowed"

    @pytest.mark.parametrize("private", [rsa_key(), ec_key(), ed_key()], ids=["rsa", "ec", "ed"])
    def test_public_key_as_secret(self, private: Any) -> None:
        """
        A token that is signed with the public key as an HMAC secret is refused.
        """
        pem = public_pem(private)
        by = verifier(holding(pem_key(pem)))
        for secret in (pem, pem.strip(), json.dumps(jwk(private)).encode()):
            assert refused(by, forge(HEADER, CLAIMS, secret)) == "none of the keys verifies its signature"

    @pytest.mark.parametrize(
        ("algorithm", "key"),
        [
            ("ES256", pem_key(public_pem(rsa_key()))),
            ("ES256", secret_key(SECRET)),
            ("ES384", pem_key(public_pem(ec_key()))),
            ("RS256", pem_key(public_pem(ec_key()))),
            ("EdDSA", pem_key(public_pem(ec_key()))),
            ("ES256", pem_key(public_pem(ed_key()))),
        ],
    )
    def test_key_of_another_kind(self, algorithm: str, key: Key) -> None:
        """
        A key is not used with an algorithm of another kind, whatever the token names.
        """
        claimed = f"{part({**HEADER, 'alg': algorithm})}.{part(CLAIMS)}.{part(b'x' * 64)}"
        assert refused(verifier(holding(key)), claimed) == "none of the keys verifies its signature"

    def test_allow_list(self) -> None:
        """
        An algorithm that is not on the hub's list is refused even if a key fits, and unknown algorithms
        cannot be added to the list.
        """
        issuers = [holding(secret_key(SECRET), pem_key(public_pem(rsa_key())))]
        by = verifier(*issuers, algorithms=["RS256", "none", "HS1"])
        assert takes(by, sign(CLAIMS, key=rsa_key(), algorithm="RS256"))
        assert refused(by, sign(CLAIMS, key=rsa_key(), algorithm="RS384")) == "its algorithm is not allowed"
        assert refused(by, sign(CLAIMS)) == "its algorithm is not allowed"
        assert (
            refused(by, f"{part({**HEADER, 'alg': 'none'})}.{part(CLAIMS)}.")
            == "its algorithm is not allowed"
        )
        nothing = verifier(*issuers, algorithms=[])
        assert refused(nothing, sign(CLAIMS)) == "its algorithm is not allowed"

    def test_key_that_is_limited(self) -> None:
        """
        A JSON Web Key with alg verifies no other algorithm.
        """
        by = verifier(holding(*jwks_keys(jwks(jwk(rsa_key(), alg="PS256")))))
        assert takes(by, sign(CLAIMS, key=rsa_key(), algorithm="PS256"))
        assert not takes(by, sign(CLAIMS, key=rsa_key(), algorithm="RS256"))


class SignatureTests:
    def test_wrong_secret(self) -> None:
        """
        A token that is signed with another secret is refused.
        """
        assert (
            refused(verifier(), sign(CLAIMS, key=OTHER_SECRET)) == "none of the keys verifies its signature"
        )

    def test_parts_of_two_tokens(self) -> None:
        """
        A token with the claims of one token and the signature of another is refused.
        """
        one, two = sign(CLAIMS).split("."), sign({**CLAIMS, "exp": 7200}).split(".")
        assert not takes(verifier(), ".".join([one[0], two[1], one[2]]))
        assert not takes(verifier(), ".".join([one[0], one[1], two[2]]))
        assert not takes(verifier(), ".".join([*one[:2], ""]))

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(st.sampled_from(["HS256", "ES256", "EdDSA"]), st.data())
    def test_one_byte(self, algorithm: str, data: st.DataObject) -> None:
        """
        A token with one changed character is refused, except for the unused bits of the signature's last
        character.
        """
        key, good = signed_once(algorithm)
        by = verifier(holding(key))
        assert takes(by, good)
        place = data.draw(st.integers(0, len(good) - 1) | st.just(len(good) - 1))
        other = st.sampled_from(ALPHABET) | st.characters(max_codepoint=127)
        changed = good[:place] + data.draw(other.filter(lambda it: it != good[place])) + good[place + 1 :]
        if takes(by, changed):
            assert place == len(good) - 1
            assert signature_of(changed) == signature_of(good)

    @settings(derandomize=True, deadline=None, max_examples=200)
    @given(st.text(max_size=80) | st.lists(st.binary(max_size=40), min_size=3, max_size=3))
    def test_anything(self, given: str | list[bytes]) -> None:
        """
        Any text that is presented as a token is refused without another error.
        """
        assert not takes(verifier(), given if isinstance(given, str) else ".".join(map(part, given)))


class HeaderTests:
    @pytest.mark.parametrize(
        "type", ["at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/AT+jwt"]
    )
    def test_type(self, type: str) -> None:
        """
        The typ at+jwt is accepted in any case, with or without application/.
        """
        assert takes(verifier(), sign(CLAIMS, headers={"typ": type}))

    @pytest.mark.parametrize(
        "type",
        [
            None,
            "",
            "JWT",
            "jwt",
            "at",
            "at+jwt ",
            "at+jwt;x",
            "x/at+jwt",
            "application/application/at+jwt",
            7,
            ["at+jwt"],
        ],
    )
    def test_other_type(self, type: Any) -> None:
        """
        Tokens with another typ, such as ID tokens, are refused.
        """
        header = {"alg": "HS256"} if type is None else {"alg": "HS256", "typ": type}
        assert refused(verifier(), forge(header, CLAIMS, SECRET)) == "its typ is not at+jwt"

    @pytest.mark.parametrize("extensions", [["b64"], ["exp"], ["x"], [], "b64", None])
    def test_critical(self, extensions: Any) -> None:
        """
        A token with critical extensions is refused: the hub supports none.
        """
        assert not takes(verifier(), forge({**HEADER, "crit": extensions, "x": 1}, CLAIMS, SECRET))

    def test_critical_extension_of_pyjwt(self) -> None:
        """
        A critical extension is refused even if PyJWT supports it.
        """
        given = forge({**HEADER, "crit": ["b64"], "b64": True}, CLAIMS, SECRET)
        assert refused(verifier(), given) == "its header has an unsupported parameter"

    def test_unencoded(self) -> None:
        """
        A token with unencoded claims (b64) is refused, with and without crit.
        """
        for more in ({"b64": False}, {"b64": False, "crit": ["b64"]}):
            header = {**HEADER, **more}
            for claims in (part(CLAIMS), json.dumps(CLAIMS), ""):
                signed = f"{part(header)}.{claims}"
                signature = part(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())
                assert refused(verifier(), f"{signed}.{signature}") == "it is not a JSON Web Token"

    @pytest.mark.parametrize("private", [True, False])
    def test_embedded_key(self, private: bool) -> None:
        """
        A key in the token's header, or a URL of one, is not used.
        """
        mine = ec_key(name="mine")
        by = verifier(holding(pem_key(public_pem(ec_key()))))
        headers = {
            "jwk": jwk(mine),
            "jku": "https://evil.example/keys",
            "x5u": "https://evil.example/",
            "x5c": ["AAAA"],
        }
        with_them = sign(CLAIMS, key=mine, algorithm="ES256", headers=headers)
        assert refused(by, with_them) == "none of the keys verifies its signature"
        # Such header members do not make a valid token invalid.
        assert takes(by, sign(CLAIMS, key=ec_key(), algorithm="ES256", headers=headers))


class KeyNameTests:
    """
    The kid of a token is a hint: it never makes an untrusted key valid.
    """

    def named(self, **keys: str) -> Verifier:
        return verifier(holding(*(secret_key(secret, id=name) for name, secret in keys.items())))

    def by_name(self, name: Any, secret: str = SECRET) -> str:
        return forge({**HEADER, "kid": name}, CLAIMS, secret)

    def test_key_with_that_name(self) -> None:
        """
        If a key has the kid of the token, only that key is tried.
        """
        by = self.named(a=SECRET, b=OTHER_SECRET)
        assert takes(by, self.by_name("a"))
        assert takes(by, self.by_name("b", OTHER_SECRET))
        assert not takes(by, self.by_name("b"))

    def test_no_name(self) -> None:
        """
        All keys are tried for a token without kid.
        """
        by = self.named(a=OTHER_SECRET, b=SECRET)
        assert takes(by, sign(CLAIMS))

    def test_name_that_no_key_has(self) -> None:
        """
        If no key has the kid of the token, keys without an ID are tried, and keys with another ID are not.
        """
        assert not takes(self.named(a=SECRET), self.by_name("b"))
        assert takes(verifier(), self.by_name("b"))
        mixed = verifier(holding(secret_key(OTHER_SECRET, id="a"), secret_key(SECRET)))
        assert takes(mixed, self.by_name("b"))

    def test_several_with_that_name(self) -> None:
        """
        If several keys have the kid of the token, all of them are tried.
        """
        by = verifier(holding(secret_key(OTHER_SECRET, id="a"), secret_key(SECRET, id="a")))
        assert takes(by, self.by_name("a"))

    def test_same_name_of_another_kind(self) -> None:
        """
        A key with the kid of the token, but for another algorithm, does not hide a key without an ID.
        """
        by = verifier(holding(pem_key(public_pem(ec_key()), id="a"), secret_key(SECRET)))
        assert takes(by, self.by_name("a"))

    @pytest.mark.parametrize("name", [7, ["a"], {"a": 1}, True])
    def test_name_that_is_no_text(self, name: Any) -> None:
        """
        A token whose kid is not a string is refused.
        """
        assert not takes(verifier(), self.by_name(name))

    def test_odd_names(self) -> None:
        """
        A kid is only compared, whatever characters it has.
        """
        for name in ("", "../../etc/passwd", "a' or 1=1", "é" * 100):
            assert takes(self.named(**{name: SECRET}), self.by_name(name))
            assert not takes(self.named(a=SECRET), self.by_name(name))


class AudienceTests:
    @pytest.mark.parametrize(
        "audience", [URL, [URL], ["https://other.example", URL], [7, URL], [None, [], URL]]
    )
    def test_audience_of_this_hub(self, audience: Any) -> None:
        """
        A token with the hub's audience is accepted, also among other audiences.
        """
        assert takes(verifier(), forge(HEADER, {**CLAIMS, "aud": audience}, SECRET))

    @pytest.mark.parametrize(
        "audience",
        [
            None,
            "",
            [],
            [[URL]],
            {URL: 1},
            7,
            True,
            "https://other.example",
            ["https://other.example"],
            URL + "/",
            URL.upper(),
            URL[:-1],
            f"{URL} https://other.example",
        ],
    )
    def test_for_others(self, audience: Any) -> None:
        """
        A token whose audience does not include the hub is refused.
        """
        assert refused(verifier(), forge(HEADER, {**CLAIMS, "aud": audience}, SECRET)) == OTHER_AUDIENCE

    def test_missing(self) -> None:
        """
        A token without an audience is refused.
        """
        assert refused(verifier(), token(publish=["news"], aud=None)) == OTHER_AUDIENCE

    def test_several_names(self) -> None:
        """
        A hub may accept several audiences.
        """
        by = verifier(audience=["a", "b"])
        assert takes(by, token(publish=["news"], aud="b"))
        assert not takes(by, token(publish=["news"]))
        assert not takes(verifier(audience=[]), token(publish=["news"]))


class IssuerTests:
    def issuers(self, *, unnamed: bool) -> list[Issuer]:
        named = [
            holding(secret_key("a" * 32), name="https://a.example"),
            holding(secret_key("b" * 32), name="https://b.example"),
        ]
        return [*named, *([shared_secret(SECRET)] if unnamed else [])]

    def by(self, name: Any, secret: str) -> str:
        claims = CLAIMS if name is None else {**CLAIMS, "iss": name}
        return forge(HEADER, claims, secret)

    @pytest.mark.parametrize("unnamed", [True, False])
    def test_trusted(self, unnamed: bool) -> None:
        """
        Each issuer's tokens are verified with that issuer's keys only.
        """
        by = verifier(*self.issuers(unnamed=unnamed))
        assert takes(by, self.by("https://a.example", "a" * 32))
        assert takes(by, self.by("https://b.example", "b" * 32))
        for secret in ("b" * 32, SECRET):
            assert (
                refused(by, self.by("https://a.example", secret)) == "none of the keys verifies its signature"
            )

    @pytest.mark.parametrize(
        "name", [None, "https://c.example", "https://a.example/", "", 7, ["https://a.example"]]
    )
    def test_unknown(self, name: Any) -> None:
        """
        A token of an unknown issuer is refused, unless an issuer without a name has signed it.
        """
        strict = verifier(*self.issuers(unnamed=False))
        for secret in ("a" * 32, "b" * 32):
            assert refused(strict, self.by(name, secret)) == "its issuer is not trusted"
        lenient = verifier(*self.issuers(unnamed=True))
        assert takes(lenient, self.by(name, SECRET))
        assert refused(lenient, self.by(name, "a" * 32)) == "none of the keys verifies its signature"

    def test_no_issuers(self) -> None:
        """
        A hub without issuers refuses every token.
        """
        by = Verifier([], base=URL, audience=[URL], seconds=lambda: NOW)
        assert refused(by, sign(CLAIMS)) == "its issuer is not trusted"

    @pytest.mark.parametrize("compatibility", [False, True])
    @pytest.mark.parametrize("servers", [False, True])
    @pytest.mark.parametrize(
        "name",
        [None, "https://c.example", "https://A.example", "https://a.example/", "", 7, ["https://a.example"]],
    )
    def test_key_with_a_name(self, name: Any, servers: bool, compatibility: bool) -> None:
        """
        A holder of a named issuer's shared secret learns that the token has another iss; other clients do
        not.
        """
        others = self.issuers(unnamed=False)[1:] if servers else []
        by = verifier(*others, shared_secret(SECRET, name="https://a.example"), compatibility=compatibility)
        for header in (HEADER, *([{"alg": "HS256"}] if compatibility else [])):
            claims = {**CLAIMS, **({} if header is HEADER else {"mercure": {"publish": ["*"]}})}
            assert takes(by, forge(header, {**claims, "iss": "https://a.example"}, SECRET))
            bad = forge(header, claims if name is None else {**claims, "iss": name}, SECRET)
            for _ in range(2):
                with pytest.raises(InvalidToken) as raised:
                    verify(by, bad)
                assert raised.value.disclosed == (
                    "the token is not accepted: its issuer (iss) is not the one that has this key: "
                    "https://a.example"
                )
            stranger = forge(header, claims if name is None else {**claims, "iss": name}, OTHER_SECRET)
            with pytest.raises(InvalidToken) as raised:
                verify(by, stranger)
            assert raised.value.disclosed == "the token is not valid"

    def test_same_name_twice(self) -> None:
        """
        Two issuers with one name are an error, since only the keys of one would be used.
        """
        with pytest.raises(ValueError, match="two issuers have the name None"):
            verifier(shared_secret(SECRET), shared_secret(OTHER_SECRET))

    def test_shared_secret(self) -> None:
        """
        A shared secret may have an issuer name, and another secret for subscribers.
        """
        issuer = shared_secret(SECRET, subscribe=OTHER_SECRET, name="https://a.example")
        assert (issuer.name, issuer.authorization_server) == ("https://a.example", False)
        by = verifier(issuer)
        good = {**CLAIMS, "iss": "https://a.example"}
        assert takes(by, sign(good), "publish")
        assert takes(by, sign(good, key=OTHER_SECRET), "subscribe")
        assert not takes(by, sign(good), "subscribe")
        assert not takes(by, sign(good, key=OTHER_SECRET), "publish")
        for secrets in (("short", None), (SECRET, "short")):
            with pytest.raises(BadKey, match="at least 32 bytes"):
                shared_secret(secrets[0], subscribe=secrets[1])


class TimeTests:
    @pytest.mark.parametrize("expires", [NOW + 1, NOW + 0.001, 3600.5, 1e12 - 1])
    def test_not_expired(self, expires: float) -> None:
        """
        A token is valid until its expiry, which may be a fraction of a second.
        """
        assert verify(verifier(), token(publish=["news"], exp=expires)).expires == expires

    @pytest.mark.parametrize("expires", [NOW, NOW - 0.001, 1, 0, -1, -1e11, -0.0])
    def test_expired(self, expires: float) -> None:
        """
        A token is refused from its expiry on, without leeway.
        """
        assert refused(verifier(), token(publish=["news"], exp=expires)) == "it has expired"

    @pytest.mark.parametrize(
        "written", ['"3600"', "true", "false", "[]", "{}", "1e12", "1e999", "-1e12", "9" * 400]
    )
    def test_no_time(self, written: str) -> None:
        """
        A token is refused if exp or nbf is not a number, or too large to be in seconds.
        """
        for name in ("exp", "nbf"):
            claims = json.dumps({**CLAIMS, name: "?"}).replace('"?"', written)
            assert refused(verifier(), forge(HEADER, claims, SECRET)) == f"its {name} is not a valid time"

    def test_no_expiry(self) -> None:
        """
        A token without an expiry is refused.
        """
        assert refused(verifier(), token(publish=["news"], exp=None)) == "it has no exp"
        assert refused(verifier(), forge(HEADER, {**CLAIMS, "exp": None}, SECRET)) == "it has no exp"

    @pytest.mark.parametrize("begins", [NOW, NOW + 30, 0, -5, NOW + 29.9, None])
    def test_begun(self, begins: float | None) -> None:
        """
        A token may begin up to 30 seconds later than the hub's clock.
        """
        assert takes(verifier(), forge(HEADER, {**CLAIMS, "nbf": begins}, SECRET))

    @pytest.mark.parametrize("begins", [NOW + 30.1, NOW + 31, 3600])
    def test_not_begun(self, begins: float) -> None:
        """
        A token that begins more than 30 seconds later than the hub's clock is refused.
        """
        assert refused(verifier(), token(publish=["news"], nbf=begins)) == "it is not valid yet"

    def test_current_time(self) -> None:
        """
        Each verification uses the current time.
        """
        time = Time()
        by = verifier(seconds=time)
        late = token(publish=["news"], nbf=NOW + 100, exp=NOW + 200)
        assert not takes(by, late)
        time.now += 70
        assert takes(by, late)
        time.now += 130
        assert not takes(by, late)


class RoleTests:
    def test_keys_of_each(self) -> None:
        """
        The key for subscribers' tokens verifies no token for publishing, and the reverse, also for cached
        tokens.
        """
        keys = [FixedKeys([secret_key(SECRET)]), FixedKeys([secret_key(OTHER_SECRET)])]
        by = verifier(Issuer(publish=keys[0], subscribe=keys[1]))
        publisher, subscriber = sign(CLAIMS), sign(CLAIMS, key=OTHER_SECRET)
        for _ in range(2):
            # The second time, the tokens are cached.
            assert takes(by, publisher, "publish")
            assert not takes(by, publisher, "subscribe")
            assert takes(by, subscriber, "subscribe")
            assert not takes(by, subscriber, "publish")


class RememberedTests:
    @pytest.fixture
    def time(self) -> Time:
        return Time()

    @pytest.fixture
    def keys(self) -> CountingKeys:
        return CountingKeys(secret_key(SECRET, id="a"))

    @pytest.fixture
    def by(self, keys: CountingKeys, time: Time) -> Verifier:
        return verifier(Issuer(keys, keys), seconds=time)

    @pytest.fixture
    def verifications(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """
        Return the list of tokens whose signature is verified during the test.
        """
        verified: list[str] = []
        decode: Callable[..., Any] = jwt.PyJWS.decode_complete

        def note(self: Any, token: str, key: Any = "", *args: Any, **options: Any) -> Any:
            if key:
                verified.append(token)
            return decode(self, token, key, *args, **options)

        monkeypatch.setattr(jwt.PyJWS, "decode_complete", note)
        return verified

    def test_again(self, by: Verifier, verifications: list[str]) -> None:
        """
        A valid token is verified once, and returns the same grants the next time.
        """
        good = sign(CLAIMS)
        assert verify(by, good) is verify(by, good)
        assert verifications == [good]

    def test_refused_tokens_are_not_cached(self, by: Verifier, verifications: list[str]) -> None:
        """
        Refused tokens are not cached: a client can make any number of them.
        """
        bad = sign(CLAIMS, key=OTHER_SECRET)
        for _ in range(2):
            assert not takes(by, bad)
        assert verifications == [bad, bad]

    def test_expired_meanwhile(self, by: Verifier, time: Time) -> None:
        """
        A cached token is refused once it expires.
        """
        good = token(publish=["news"], exp=NOW + 10)
        assert takes(by, good)
        time.now += 9.999
        assert takes(by, good)
        time.now += 0.001
        assert refused(by, good) == "it has expired"

    def test_other_keys(self, by: Verifier, keys: CountingKeys, verifications: list[str]) -> None:
        """
        If the keys change, cached tokens are verified again.
        """
        good = sign(CLAIMS)
        assert takes(by, good)
        keys.change(secret_key(SECRET), secret_key(OTHER_SECRET))
        assert takes(by, good)
        assert takes(by, good)
        assert verifications == [good, good]
        keys.change(secret_key(OTHER_SECRET))
        assert not takes(by, good)

    def test_keys_are_looked_up(self, by: Verifier, keys: CountingKeys) -> None:
        """
        A cached token also makes the source look for newer keys; only the first verification passes the kid.
        """
        good = sign(CLAIMS, headers={"kid": "a"})
        for _ in range(3):
            assert takes(by, good)
        assert keys.asked == ["a", None, None]

    def test_withdrawn_during_lookup(self, by: Verifier, keys: CountingKeys) -> None:
        """
        If the keys change while a cached token waits for them, the token is verified with the new keys.
        """
        good = sign(CLAIMS)
        assert takes(by, good)
        keys.held = []
        outcomes = [outcome_of(Deferred.fromCoroutine(by.verify(good, "publish"))) for _ in range(2)]
        waiting, keys.held = keys.held, None
        keys.change(secret_key(OTHER_SECRET))
        for each in waiting:
            each.callback(None)
        for (error,) in outcomes:
            assert isinstance(error, InvalidToken)

    def test_expired_during_lookup(self, by: Verifier, keys: CountingKeys, time: Time) -> None:
        """
        A cached token that expires while it waits for the keys is refused.
        """
        good = token(publish=["news"], exp=NOW + 10)
        assert takes(by, good)
        keys.held = []
        outcome = outcome_of(Deferred.fromCoroutine(by.verify(good, "publish")))
        time.now += 10
        keys.held[0].callback(None)
        (error,) = outcome
        assert isinstance(error, InvalidToken)
        assert error.reason == "it has expired"

    @pytest.mark.slow
    def test_limit(self, by: Verifier, verifications: list[str]) -> None:
        """
        The hub caches a thousand tokens, and removes the least recently used one first.
        """
        tokens = [forge(HEADER, {**CLAIMS, "jti": str(number)}, SECRET) for number in range(1001)]
        for each in tokens[:1000]:
            assert takes(by, each)
        assert takes(by, tokens[0])
        assert takes(by, tokens[1000])
        verifications.clear()
        assert takes(by, tokens[0])
        assert takes(by, tokens[2])
        assert verifications == []
        assert takes(by, tokens[1])
        assert verifications == [tokens[1]]


class OldTests:
    @pytest.fixture
    def by(self) -> Verifier:
        return verifier(compatibility=True)

    def test_claim(self, by: Verifier) -> None:
        """
        With compatibility, a token from before Mercure 1.0 needs no typ, audience or expiry.
        """
        grants = verify(by, old_token(publish=["news"], subscribe=["a/{b}"]))
        assert grants.publish.has(["news"])
        assert grants.subscribe.has(["a/1"])
        assert grants.expires is None

    @pytest.mark.parametrize("header", [{}, {"typ": "JWT"}, {"typ": "x"}])
    def test_type(self, by: Verifier, header: dict[str, str]) -> None:
        """
        With compatibility, a token with another typ than at+jwt is read as one from before Mercure 1.0.
        """
        assert takes(by, forge({"alg": "HS256", **header}, {"mercure": {"publish": ["news"]}}, SECRET))

    def test_audience(self, by: Verifier) -> None:
        """
        A token from before Mercure 1.0 needs no audience, but a given one is checked.
        """
        claims = {"mercure": {"publish": ["news"]}}
        for audience in (None, URL, [URL], ["https://other.example", URL]):
            assert takes(by, forge({"alg": "HS256"}, {**claims, "aud": audience}, SECRET))
        other: Any
        for other in ("https://other.example/", [], ["x"], "", 7, {}):
            token = forge({"alg": "HS256"}, {**claims, "aud": other}, SECRET)
            assert refused(by, token) == OTHER_AUDIENCE

    def test_without_compatibility(self) -> None:
        """
        Tokens from before Mercure 1.0 are refused without compatibility.
        """
        assert refused(verifier(), old_token(publish=["news"])) == "its typ is not at+jwt"

    def test_current_tokens(self, by: Verifier) -> None:
        """
        With compatibility, a Mercure 1.0 token still needs an expiry and an audience.
        """
        assert takes(by, sign(CLAIMS))
        assert refused(by, token(publish=["news"], exp=None)) == "it has no exp"
        assert refused(by, token(publish=["news"], aud=None)) == OTHER_AUDIENCE

    def test_both_dialects(self, by: Verifier) -> None:
        """
        A token with claims of both dialects is read by its typ only.
        """
        both = {**CLAIMS, "mercure": {"publish": ["old"], "subscribe": ["old"]}}
        new = verify(by, sign(both))
        assert (new.publish.exact, new.subscribe.exact) == (("news",), ())
        old = verify(by, sign(both, headers={"typ": "JWT"}))
        assert (old.publish.exact, old.subscribe.exact, old.expires) == (("old",), ("old",), 3600.0)

    def test_nothing_in_it(self, by: Verifier) -> None:
        """
        A token from before Mercure 1.0 without the claim mercure grants nothing.
        """
        grants = verify(by, sign({"sub": "a"}, headers={"typ": "JWT"}))
        assert (len(grants.publish), len(grants.subscribe)) == (0, 0)

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"exp": NOW}, "it has expired"),
            ({"exp": "soon"}, "its exp is not a valid time"),
            ({"nbf": NOW + 31}, "it is not valid yet"),
            ({"mercure": []}, "mercure is not an object"),
        ],
    )
    def test_refused(self, by: Verifier, claims: dict[str, Any], reason: str) -> None:
        """
        The claims of a token from before Mercure 1.0 are checked if they are present.
        """
        given = {"mercure": {"publish": ["news"]}, **claims}
        assert refused(by, sign(given, headers={"typ": "JWT"})) == reason

    def test_signature(self, by: Verifier) -> None:
        """
        The signature of a token from before Mercure 1.0 is verified.
        """
        key: Any
        for algorithm, key in (("HS256", OTHER_SECRET), ("none", None)):
            given = jwt.encode({"mercure": {"publish": ["news"]}}, key, algorithm)
            assert not takes(by, given)

    def test_expires_meanwhile(self) -> None:
        """
        A cached token from before Mercure 1.0 is refused once it expires, and stays valid without an expiry.
        """
        time = Time()
        by = verifier(compatibility=True, seconds=time)
        ends = sign({"exp": NOW + 10, "mercure": {"publish": ["news"]}}, headers={"typ": "JWT"})
        stays = old_token(publish=["news"])
        assert takes(by, ends)
        assert takes(by, stays)
        time.now += 1e9
        assert not takes(by, ends)
        assert takes(by, stays)
