"""
Tests of the tokens that txsse makes, as a hub's verifier reads them.
"""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from twisted.internet.defer import Deferred

from tests.client.fakes import outcome_of
from tests.mercure.signers import ec_key
from tests.mercure.world import SECRET, URL
from txsse.mercure import FixedKeys, Issuer, secret_key
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.keys import Key
from txsse.mercure.auth.mint import InvalidClaims, RequestedClaims, make_claims, make_token, sign
from txsse.mercure.auth.verify import Role, Verifier


def verify(token: str, role: Role, key: Key, *, compatibility: bool = False) -> Grants:
    keys = FixedKeys([key])
    verifier = Verifier(
        [Issuer(keys, keys, None, authorization_server=False)],
        base=URL,
        audience=[URL],
        compatibility=compatibility,
        seconds=time.time,
    )
    (grants,) = outcome_of(Deferred.fromCoroutine(verifier.verify(token, role)))
    assert isinstance(grants, Grants)
    return grants


class TokenTests:
    def test_secret(self) -> None:
        """
        A hub accepts a minted token for the requested topics and actions, and no others.
        """
        token = make_token(SECRET, audience=URL, expires=time.time() + 60, publish=["a"], subscribe=["b"])
        grants = verify(token, "publish", secret_key(SECRET))
        assert grants.publish.has(["a"]) and not grants.publish.has(["b"])
        assert grants.subscribe.has(["b"]) and not grants.subscribe.has(["a"])
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt"}

    def test_private_key(self) -> None:
        """
        A token can be signed with a private key and its algorithm.
        """
        token = make_token(ec_key(), audience=URL, expires=time.time() + 60, publish=["*"], algorithm="ES256")
        assert verify(token, "publish", Key(("ES256",), ec_key().public_key())).publish.has(["a"])

    def test_compatibility(self) -> None:
        """
        A minted token from before Mercure 1.0 needs neither audience nor expiry, and its topics are URI
        templates.
        """
        requested = RequestedClaims(
            publish=iter(["https://x/{id}"]), subscribe=iter(["*"]), payload=[], compatibility=True
        )
        claims = make_claims(requested)
        assert claims["mercure"] == {"publish": ["https://x/{id}"], "subscribe": ["*"], "payload": []}
        token = sign(claims, SECRET, "HS256", key_id="k")
        grants = verify(token, "publish", secret_key(SECRET), compatibility=True)
        assert grants.publish.has(["https://x/1"])
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": "k"}


class ClaimsTests:
    def test_all(self) -> None:
        """
        Each requested claim is in the token, and claims that are not requested are left out.
        """
        claims = make_claims(
            RequestedClaims(
                subscribe=["a"],
                subscribe_patterns=["https://x/:id"],
                payload={"name": "ada"},
                audience=[URL],
                issuer="https://i.example",
                subject="ada",
                issued=1.5,
                expires=60.5,
            )
        )
        assert claims.pop("jti").startswith("urn:uuid:")  # type: ignore[attr-defined]
        assert claims.pop("authorization_details") == [
            {
                "type": "https://mercure.rocks/authorization-detail",
                "actions": ["subscribe"],
                "topics": [{"match": "a"}, {"match": "https://x/:id", "match_type": "urlpattern"}],
                "payload": {"name": "ada"},
            }
        ]
        assert claims == {"iss": "https://i.example", "sub": "ada", "aud": [URL], "iat": 1, "exp": 60}

    def test_disconnect(self) -> None:
        """
        A token that allows disconnecting clients has a detail of txsse's own type.
        """
        token = make_token("x" * 32, audience=URL, expires=2**32, publish=["a"], disconnect=True)
        grants = verify(token, "publish", secret_key("x" * 32))
        assert grants.disconnect and grants.publish.has(["a"])
        token = make_token("x" * 32, audience=URL, expires=2**32, publish=["a"])
        assert not verify(token, "publish", secret_key("x" * 32)).disconnect

    @pytest.mark.parametrize(
        ("requested", "problem"),
        [
            ({"expires": 60}, "needs aud"),
            ({"audience": URL}, "needs exp"),
            (
                {"audience": URL, "expires": 60, "publish": ["a\n"]},
                "no hub would accept this token: a matcher",
            ),
            ({"audience": URL, "expires": 60, "subscribe": ["a"], "payload": []}, "payload is not an object"),
            ({"compatibility": True, "publish_patterns": ["/:id"]}, "there were no URL patterns"),
            ({"compatibility": True, "subscribe_patterns": ["/:id"]}, "there were no URL patterns"),
            ({"compatibility": True, "publish": ["a\n"]}, "no hub would accept this token: a matcher"),
            ({"compatibility": True, "disconnect": True}, "cannot allow disconnecting clients"),
            ({"compatibility": True, "subject": "x" * 513}, "its sub has 513 bytes"),
            ({"audience": URL, "expires": 60, "subject": "\ud800"}, "its sub is not valid Unicode"),
        ],
    )
    def test_invalid(self, requested: dict[str, Any], problem: str) -> None:
        """
        Claims that no hub would accept are refused before signing.
        """
        with pytest.raises(InvalidClaims, match=problem):
            make_claims(RequestedClaims(**requested))
