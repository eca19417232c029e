"""
Those who wait. What they are for is tested with the channel's ``drain`` and ``when_closed``.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from txsse._waiters import SharedCall, Waiters


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
        second.addErrback(lambda failure: heard.append(failure.type.__name__))  # type: ignore[call-overload]
        waiting.fail(ValueError())
        assert heard == [CancelledError.__name__]


class SharedCallTests:
    def test_shared(self) -> None:
        """
        Callers that join a call share its result, each with a Deferred of its own; the next one begins anew.
        """
        answers: list[Deferred[int]] = []

        async def work() -> int:
            answers.append(Deferred())
            return await answers[-1]

        shared: SharedCall[int] = SharedCall()
        heard: list[int] = []
        first, second = shared.join(work), shared.join(work)
        first.addCallback(lambda number: heard.append(number) or -1)  # type: ignore[call-overload, func-returns-value]
        second.addCallback(heard.append)
        assert (len(answers), shared.is_running) == (1, True)
        answers[0].callback(1)
        assert (heard, shared.is_running) == ([1, 1], False)
        shared.join(work).addCallback(heard.append)
        answers[1].callback(2)
        assert heard == [1, 1, 2]

    def test_failure(self) -> None:
        """
        All of them get the failure.
        """

        async def work() -> int:
            raise ValueError("no")

        async def slow() -> int:
            await answer
            raise ValueError("no")

        answer: Deferred[None] = Deferred()
        shared: SharedCall[int] = SharedCall()
        heard: list[str] = []
        shared.join(work).addErrback(lambda failure: heard.append(str(failure.value)))
        for _ in range(2):
            shared.join(slow).addErrback(lambda failure: heard.append(str(failure.value)))
        assert heard == ["no"]
        answer.callback(None)
        assert heard == ["no"] * 3
        assert not shared.is_running

    def test_caller_that_cancels(self) -> None:
        """
        It gives up its own Deferred, and not the call.
        """
        answer: Deferred[int] = Deferred()

        async def work() -> int:
            return await answer

        shared: SharedCall[int] = SharedCall()
        heard: list[object] = []
        first = shared.join(work).addErrback(lambda failure: heard.append(failure.type))
        shared.join(work).addCallback(heard.append)
        first.cancel()
        answer.callback(7)
        assert heard == [CancelledError, 7]
