"""
The contract of :class:`~txsse.IJournal` as checks that any journal has to pass, in any test runner::

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

With trial, a test method returns ``Deferred.fromCoroutine(check(Factory(self.mktemp())))``. A check raises
:exc:`AssertionError` with the sentence that does not hold; and, if it does not apply to the journal,
:exc:`unittest.SkipTest`, which both runners know.
"""

# Each of them registers its checks.
import txsse.testing.journal_contract.batches
import txsse.testing.journal_contract.bounds
import txsse.testing.journal_contract.reading
import txsse.testing.journal_contract.recording
import txsse.testing.journal_contract.stopping  # noqa: F401
from txsse.testing.journal_contract.subject import CHECKS, JournalFactory

__all__ = ["CHECKS", "JournalFactory"]
