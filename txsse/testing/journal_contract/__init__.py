"""
The contract of :class:`~txsse.IJournal` as checks that every journal has to pass, in any test runner.

For pytest::

    class Factory(JournalFactory):
        persists = True
        bounds = {"max_count"}

        def __init__(self, path):
            self.path = path

        def __call__(self, **bounds):
            return MyJournal(self.path, **bounds)

        def another(self):
            return Factory(self.path + "-another")

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest_twisted.ensureDeferred
    async def test_contract(check, tmp_path):
        await check(Factory(str(tmp_path / "journal")))

With trial, a test method returns ``Deferred.fromCoroutine(check(Factory(self.mktemp())))``. A check that
fails raises :exc:`AssertionError` with the sentence of the contract that the journal breaks. A check that
does not apply to the journal raises :exc:`unittest.SkipTest`, which both runners know.
"""

# Importing these modules registers their checks.
import txsse.testing.journal_contract.batches
import txsse.testing.journal_contract.bounds
import txsse.testing.journal_contract.reading
import txsse.testing.journal_contract.recording
import txsse.testing.journal_contract.retained_bounds
import txsse.testing.journal_contract.retaining
import txsse.testing.journal_contract.revoking
import txsse.testing.journal_contract.stopping  # noqa: F401
from txsse.testing.journal_contract.subject import CHECKS, JournalFactory

__all__ = ["CHECKS", "JournalFactory"]
