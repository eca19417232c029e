"""
The claims of a token by which it is revoked, and its streams disconnected.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.hub.fakes import result_of
from tests.mercure.auth.test_verify import CLAIMS, HEADER, SECRET, forge, verifier
from txsse.journal.keys import encode_key
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.identity import (
    MAX_IDENTITY_BYTES,
    Identity,
    check_identity,
    check_key_claim,
    read_identity,
    stream_key,
)
from txsse.mercure.errors import InvalidToken


class IdentityTests:
    def test_all_claims(self) -> None:
        """
        A token with all claims is revoked by each, and its stream has the subject as its first key.
        """
        found = read_identity({"sub": "ann", "jti": "t1", "sid": "s1"}, "sid")
        assert found == Identity("ann", "t1", "s1")
        assert found.claims == [("sub", "ann"), ("jti", "t1"), ("sid", "s1")]
        assert found.keys == ("ann", ("jti", "t1"), ("key", "s1"))

    @pytest.mark.parametrize("claims", [{}, {"sub": None, "jti": "", "sid": None}])
    def test_no_claim(self, claims: dict[str, object]) -> None:
        """
        A token without the claims, or with empty ones, has no keys.
        """
        found = read_identity(claims, "sid")
        assert found == Identity()
        assert (found.claims, found.keys) == ([], ())

    def test_without_a_subject(self) -> None:
        """
        The first key of a stream whose token has no subject is None.
        """
        assert read_identity({"jti": "t1"}, "sid").keys == (None, ("jti", "t1"))
        assert read_identity({"sid": "s1"}, "sid").keys == (None, ("key", "s1"))

    def test_other_claim(self) -> None:
        """
        The key of a session may be in another claim, which is then the one that is revoked.
        """
        found = read_identity({"sid": "s1", "session": "s2"}, "session")
        assert found.claims == [("session", "s2")]
        assert found.keys == (None, ("key", "s2"))

    @pytest.mark.parametrize("value", [1, 1.5, True, ["a"], {"a": 1}])
    @pytest.mark.parametrize("name", ["sub", "jti", "sid"])
    def test_wrong_type(self, name: str, value: Any) -> None:
        """
        A claim that is not a text makes the token invalid.
        """
        with pytest.raises(InvalidToken, match=f"its {name} is not a text"):
            read_identity({name: value}, "sid")

    @pytest.mark.parametrize(
        ("value", "problem"),
        [("x" * 513, "has 513 bytes, and 512 is the limit"), ("\ud800", "is not valid Unicode")],
    )
    def test_value_that_could_not_be_revoked(self, value: str, problem: str) -> None:
        """
        A claim that is too long, or no valid Unicode, makes the token invalid, with the reason.
        """
        with pytest.raises(InvalidToken, match=f"its jti {problem}, so that it could not be revoked"):
            read_identity({"jti": value}, "sid")

    def test_limit(self) -> None:
        """
        A text of the maximum length is accepted, and counts in bytes.
        """
        assert check_identity("é" * (MAX_IDENTITY_BYTES // 2))
        with pytest.raises(ValueError, match="has 514 bytes"):
            check_identity("é" * (MAX_IDENTITY_BYTES // 2 + 1))
        with pytest.raises(ValueError, match="is empty"):
            check_identity("")

    @pytest.mark.parametrize("claim", ["sub", "jti", "sid"])
    @pytest.mark.parametrize("character", ["x", "é", "\0", "\U0001f600", '"'])
    def test_every_value_is_a_key(self, claim: str, character: str) -> None:
        """
        Each value that a token may have is a key that the nodes of a cluster can send each other.
        """
        value = character * (MAX_IDENTITY_BYTES // len(character.encode()))
        assert encode_key(stream_key(claim, check_identity(value)))

    def test_nothing_in_logs(self) -> None:
        """
        The representation of grants shows neither the subject nor the session.
        """
        grants = Grants(identity=Identity("ann", "t1", "s1"))
        assert not any(each in repr(grants) for each in ("ann", "t1", "s1"))

    def test_weight(self) -> None:
        """
        The claims count in the weight of a token.
        """
        long = Identity("x" * 512, "x" * 512, "x" * 512)
        assert Grants(identity=long).weight >= Grants().weight + 3 * 512 // 25


class KeyClaimTests:
    @pytest.mark.parametrize("name", ["sid", "sub", "https://example.org/session", "é"])
    def test_good(self, name: str) -> None:
        """
        A claim with a text may have the key of a session.
        """
        check_key_claim(name)

    @pytest.mark.parametrize("name", ["", "x" * 101, "a\n", "exp", "iat", "aud", "authorization_details"])
    def test_bad(self, name: str) -> None:
        """
        A name that no such claim can have is refused, with an example.
        """
        with pytest.raises(ValueError, match=r"is not the name of a claim .* an example is sid"):
            check_key_claim(name)


class VerifiedTests:
    def verify(self, **claims: Any) -> Grants:
        by = verifier(key_claim="session")
        token = forge(HEADER, {**CLAIMS, **claims}, SECRET)
        return result_of(Deferred.fromCoroutine(by.verify(token, "publish")))

    def test_grants(self) -> None:
        """
        The grants of a verified token have its identity and its time of issue.
        """
        grants = self.verify(sub="ann", jti="t1", session="s1", sid="other", iat=7)
        assert grants.identity == Identity("ann", "t1", "s1", "session")
        assert grants.issued == 7
        assert self.verify().issued is None

    @pytest.mark.parametrize("claims", [{"iat": "now"}, {"iat": True}, {"sub": 1}, {"session": []}])
    def test_invalid(self, claims: dict[str, Any]) -> None:
        """
        A claim of a wrong type makes a token invalid, and the client of a signed token learns which.
        """
        with pytest.raises(InvalidToken) as raised:
            self.verify(**claims)
        [name] = claims
        assert raised.value.signed and f"its {name} is not" in raised.value.disclosed
