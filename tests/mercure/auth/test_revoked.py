"""
The list of revoked tokens in memory.
"""

from __future__ import annotations

import pytest

from txsse.errors import TooManyRevocations
from txsse.journal.revocations import Revocation
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.identity import Identity
from txsse.mercure.auth.revoked import RevokedTokens
from txsse.mercure.errors import InvalidToken


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def grants(issued: float | None = None, **identity: str) -> Grants:
    return Grants(issued=issued, identity=Identity(**identity))


def is_refused(revoked: RevokedTokens, tried: Grants) -> bool:
    try:
        revoked.check(tried)
    except InvalidToken as error:
        assert error.disclosed == "the token is not accepted: it has been revoked"
        assert (error.status, error.error) == (401, "invalid_token")
        return True
    return False


class CheckTests:
    def test_empty(self, time: Time) -> None:
        """
        An empty list refuses no token.
        """
        assert not is_refused(RevokedTokens(time), grants(subject="ann", token_id="t", session="s"))

    @pytest.mark.parametrize("issued", [None, 900.0, 1100.0])
    def test_token_id(self, time: Time, issued: float | None) -> None:
        """
        A token whose ID is revoked is refused, whenever it was issued; other tokens of its subject are not.
        """
        revoked = RevokedTokens(time)
        revoked.add(Revocation("jti", "t1", at=1000.0, expires=2000.0))
        assert is_refused(revoked, grants(issued, token_id="t1", subject="ann"))
        assert not is_refused(revoked, grants(issued, token_id="t2", subject="ann"))
        assert not is_refused(revoked, grants(issued, subject="t1", session="t1"))

    @pytest.mark.parametrize(
        ("issued", "refused"), [(None, True), (999.0, True), (1000.0, True), (1000.5, False), (1001.0, False)]
    )
    @pytest.mark.parametrize("claim", ["sub", "sid"])
    def test_subject_or_session(self, time: Time, claim: str, issued: float | None, refused: bool) -> None:
        """
        Tokens of a revoked subject or session are refused, unless they were issued later.
        """
        revoked = RevokedTokens(time)
        revoked.add(Revocation(claim, "x", at=1000.0, expires=2000.0))
        name = "subject" if claim == "sub" else "session"
        assert is_refused(revoked, grants(issued, **{name: "x"})) == refused

    def test_other_key_claim(self, time: Time) -> None:
        """
        A revocation of a session applies only to tokens that name it in the same claim.
        """
        revoked = RevokedTokens(time)
        revoked.add(Revocation("session", "x", at=1000.0, expires=2000.0))
        assert is_refused(revoked, grants(session="x", key_claim="session"))
        assert not is_refused(revoked, grants(session="x", key_claim="sid"))

    def test_expired(self, time: Time) -> None:
        """
        A revocation applies until it expires, and is then removed, at most once a minute.
        """
        revoked = RevokedTokens(time)
        revoked.add(Revocation("sub", "ann", at=1000.0, expires=1010.0))
        revoked.add(Revocation("sub", "bob", at=1000.0, expires=2000.0))
        assert is_refused(revoked, grants(subject="ann"))
        assert not is_refused(revoked, grants(subject="cid"))
        time.now = 1010.0
        assert not is_refused(revoked, grants(subject="ann"))
        assert len(revoked) == 2
        time.now = 1059.9
        assert not is_refused(revoked, grants(subject="ann"))
        assert len(revoked) == 2
        time.now = 1060.0
        assert not is_refused(revoked, grants(subject="ann"))
        assert len(revoked) == 1
        assert is_refused(revoked, grants(subject="bob"))

    def test_clock_that_is_set_back(self, time: Time) -> None:
        """
        Expired revocations are removed also after the system's time was set back.
        """
        revoked = RevokedTokens(time)
        time.now = 9000.0
        revoked.add(Revocation("sub", "bob", at=1000.0, expires=9500.0))
        assert not is_refused(revoked, grants())
        time.now = 1000.0
        revoked.add(Revocation("sub", "ann", at=900.0, expires=950.0))
        assert not is_refused(revoked, grants())
        assert len(revoked) == 1


class AddTests:
    def test_later_times_count(self, time: Time) -> None:
        """
        Of two revocations with the same value, the later times count, and an earlier one changes nothing.
        """
        revoked = RevokedTokens(time)
        assert revoked.add(Revocation("sub", "ann", at=1000.0, expires=2000.0))
        assert not revoked.add(Revocation("sub", "ann", at=1000.0, expires=2000.0))
        assert not revoked.add(Revocation("sub", "ann", at=900.0, expires=1500.0))
        assert revoked.add(Revocation("sub", "ann", at=1100.0, expires=1500.0))
        assert is_refused(revoked, grants(1100.0, subject="ann"))
        time.now = 1999.0
        assert is_refused(revoked, grants(1100.0, subject="ann"))

    def test_full(self, time: Time) -> None:
        """
        A full list accepts no other revocation until one of its own expires.
        """
        revoked = RevokedTokens(time, max_count=2)
        revoked.add(Revocation("sub", "a", at=1000.0, expires=1010.0))
        revoked.add(Revocation("sub", "b", at=1000.0, expires=2000.0))
        with pytest.raises(TooManyRevocations, match="2 have not expired"):
            revoked.add(Revocation("sub", "c", at=1000.0, expires=2000.0))
        assert revoked.add(Revocation("sub", "b", at=1000.0, expires=3000.0))
        time.now = 1010.0
        assert revoked.add(Revocation("sub", "c", at=1000.0, expires=2000.0))
        assert is_refused(revoked, grants(subject="c")) and is_refused(revoked, grants(subject="b"))
