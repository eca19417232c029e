"""
A node among others, on a clock that stands still.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txsse.hub.nodes import Nodes


class StopTests:
    def test_while_it_announces(self) -> None:
        """
        It does not announce itself again.
        """
        asked: list[tuple[Any, Deferred[Any]]] = []

        def run(*arguments: Any) -> Deferred[Any]:
            asked.append((arguments[0], Deferred()))
            return asked[-1][1]

        clock = Clock()
        nodes = Nodes(run, lambda: {"*": 1}, clock.seconds, clock)  # type: ignore[arg-type]
        clock.advance(0)
        nodes.stop()
        asked[0][1].callback(None)
        clock.advance(60)
        assert [command for command, _ in asked] == ["announce", "leave"]
        assert not clock.getDelayedCalls()
