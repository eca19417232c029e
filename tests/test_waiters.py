"""
Results that several callers wait for: ``Waiters``, and ``SharedCall``, a coroutine shared by its callers. The
tests of the channel's ``drain`` and ``when_closed`` cover their use.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from txsse._waiters import SharedCall, Waiters


class WaitingTests:
    def test_callback_waits_again(self) -> None:
        """
        A callback that waits again gets the next result, so that ``fire`` ends.
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

    def test_fire_stops_early(self) -> None:
        """
        Waiters that ``fire`` did not reach keep waiting, before those that were added meanwhile.
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

    def test_errback_cancels_another_waiter(self) -> None:
        """
        A waiter that another's errback cancels gets CancelledError, and is not failed again.
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
        Callers that join a running call share its result, each by its own Deferred; the next caller starts a
        new call.
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
        All callers that share a call get its failure.
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

    def test_caller_cancels(self) -> None:
        """
        A caller that cancels its Deferred does not cancel the shared call.
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
