"""
The contract checks for revocations: a third-party list passes them, and each mutant that breaks one sentence
fails one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from tests.trials.toy_journal import ToyJournal
from txsse._reactor import global_reactor
from txsse.journal.revocations import IRevocations, Revocation, merge
from txsse.testing.journal_contract import CHECKS, JournalFactory
from txsse.testing.journal_contract.subject import Check

REVOKING = [check for check in CHECKS if check.__module__.endswith("revoking")]


@implementer(IRevocations)
class ToyRevocations:
    """
    A file with one line of JSON for each revocation.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.recorded: dict[Any, Revocation] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                self.keep(Revocation(*json.loads(line)))

    def keep(self, added: Revocation) -> None:
        known = self.recorded.get(self.name_of(added))
        self.recorded[self.name_of(added)] = merge(added, known, self.clock.seconds())

    def name_of(self, added: Revocation) -> object:
        return added.claim, added.value

    def add(self, revocation: Revocation) -> Deferred[None]:
        with self.path.open("a") as file:
            file.write(json.dumps(astuple(revocation)) + "\n")
        self.keep(revocation)
        return succeed(None)

    def load(self) -> Deferred[list[Revocation]]:
        return succeed([each for each in self.recorded.values() if each.expires > self.clock.seconds()])


class Factory(JournalFactory):
    persists = True

    def __init__(self, path: Path, kind: Callable[..., ToyRevocations]) -> None:
        self.path = path
        self.kind = kind
        self.clock = Clock()

    def __call__(self, **bounds: Any) -> ToyJournal:
        journal = ToyJournal(self.path / "journal")
        journal.revocations = self.kind(self.path / "revocations", self.clock)  # type: ignore[attr-defined]
        return journal

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def now(self) -> float:
        return self.clock.seconds()


class Joined(ToyRevocations):
    """
    The name is the joined texts of claim and value.
    """

    def name_of(self, added: Revocation) -> object:
        return added.claim + added.value


class FirstOnly(ToyRevocations):
    """
    A revocation that is recorded already is not changed.
    """

    def keep(self, added: Revocation) -> None:
        self.recorded.setdefault(self.name_of(added), added)


class LatestOnly(ToyRevocations):
    """
    The times of the newest call count, even if they are earlier.
    """

    def keep(self, added: Revocation) -> None:
        self.recorded[self.name_of(added)] = added


class LaterExpiryOnly(ToyRevocations):
    """
    The later ``at`` does not count.
    """

    def keep(self, added: Revocation) -> None:
        known = self.recorded.get(self.name_of(added), added)
        self.recorded[self.name_of(added)] = replace(added, expires=max(added.expires, known.expires))


class ExpiredLoaded(ToyRevocations):
    """
    Expired revocations are loaded.
    """

    def load(self) -> Deferred[list[Revocation]]:
        return succeed(list(self.recorded.values()))


class ExpiredCount(ToyRevocations):
    """
    A revocation that has expired still counts when it is added again.
    """

    def keep(self, added: Revocation) -> None:
        known = self.recorded.get(self.name_of(added))
        self.recorded[self.name_of(added)] = merge(added, known, 0.0)


class WholeSeconds(ToyRevocations):
    """
    Times are rounded.
    """

    def keep(self, added: Revocation) -> None:
        super().keep(replace(added, at=round(added.at), expires=round(min(added.expires, 1e15))))


class FirstPage(ToyRevocations):
    """
    Only the first 1000 revocations are loaded.
    """

    def load(self) -> Deferred[list[Revocation]]:
        return super().load().addCallback(lambda found: found[:1000])


class Forgetful(ToyRevocations):
    """
    The list does not persist.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        path.unlink(missing_ok=True)
        super().__init__(path, clock)


class Late(ToyRevocations):
    """
    ``stop`` does not wait for added revocations.
    """

    def add(self, revocation: Revocation) -> Deferred[None]:
        added: Deferred[None] = deferLater(global_reactor(), 0.0, lambda: None)
        return added.addCallback(lambda _: super(Late, self).add(revocation))


class Undeclared(ToyRevocations):
    """
    The list does not have the method ``load``.
    """

    load = None  # type: ignore[assignment]


MUTANTS = [
    Joined,
    FirstOnly,
    LatestOnly,
    LaterExpiryOnly,
    ExpiredLoaded,
    ExpiredCount,
    WholeSeconds,
    FirstPage,
    Forgetful,
    Late,
    Undeclared,
]


async def failures_of(path: Path, kind: Callable[..., ToyRevocations]) -> list[Exception]:
    failed = []
    for check in REVOKING:
        directory = path / getattr(check, "__name__", "")
        directory.mkdir()
        try:
            await check(Factory(directory, kind))
        except Exception as error:
            failed.append(error)
    return failed


class ContractTests:
    @pytest.mark.parametrize("check", REVOKING, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_contract(self, tmp_path: Path, check: Check) -> None:
        """
        A third-party list of revoked tokens passes each check of the contract.
        """
        await check(Factory(tmp_path, ToyRevocations))

    @pytest.mark.slow
    @pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
    @pytest_twisted.ensureDeferred
    async def test_caught(self, tmp_path: Path, mutant: type[ToyRevocations]) -> None:
        """
        A list of revoked tokens that breaks one sentence of the contract fails at least one check.
        """
        failed = await failures_of(tmp_path, mutant)
        assert failed
        assert mutant is Undeclared or any(isinstance(error, AssertionError) for error in failed)

    def test_time_of_day(self) -> None:
        """
        The time of day of a third-party journal is by default that of the reactor.
        """
        assert JournalFactory().now() == pytest.approx(global_reactor().seconds(), abs=60)
