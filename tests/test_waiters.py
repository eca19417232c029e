"""
Those who wait. What they are for is tested with the channel's ``drain`` and ``when_closed``.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from txsse._waiters import Waiters


class WaitingTests:
    def test_one_who_waits_again_when_told(self) -> None:
        """
        It is for the next time, so that telling comes to an end.
        """
        waiting: Waiters[int] = Waiters()
        heard: list[int] = []

        def hear(number: int) -> None:
            heard.append(number)
            waiting.wait().addCallback(hear)

        waiting.wait().addCallback(hear)
        waiting.fire(1)
        assert heard == [1]
        waiting.fire(2)
        assert heard == [1, 2]

    def test_over_before_everybody_is_told(self) -> None:
        """
        The rest go on waiting, in front of those who came meanwhile.
        """
        waiting: Waiters[int] = Waiters()
        heard: list[str] = []

        def first(_: int) -> None:
            heard.append("first")
            waiting.wait().addCallback(lambda _: heard.append("new"))

        waiting.wait().addCallback(first)
        waiting.wait().addCallback(lambda _: heard.append("second"))
        waiting.fire(1, unless=lambda: heard == ["first"])
        assert heard == ["first"]
        waiting.fire(2)
        assert heard == ["first", "second", "new"]

    def test_one_who_cancels_another_when_told_of_the_failure(self) -> None:
        """
        The other is cancelled and not failed once more.
        """
        waiting: Waiters[int] = Waiters()
        heard: list[str] = []
        first, second = waiting.wait(), waiting.wait()
        first.addErrback(lambda _: second.cancel())
        second.addErrback(lambda failure: heard.append(failure.type.__name__))
        waiting.fail(ValueError())
        assert heard == [CancelledError.__name__]
