"""
The registry of a single node.
"""

from __future__ import annotations

from typing import Any

from txsse.journal.registry import IRegistry, LocalRegistry, Name


class Listener:
    """
    A listener that records its calls.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def became_responsible(self, name: Name, *, is_new: bool) -> None:
        self.calls.append((name, is_new))

    def no_longer_responsible(self, name: Name, *, is_over: bool) -> None:
        self.calls.append((name, not is_over))

    def taken_over(self, name: Name) -> None:
        raise NotImplementedError


def test_local_registry() -> None:
    """
    A single node is responsible for each name that it holds, of any hashable value, and for no others.
    """
    registry, listener = LocalRegistry(), Listener()
    assert IRegistry.providedBy(registry)
    registry.listen(listener)
    ann, news = ("streams", frozenset(["ann"])), ("topics", "news")
    registry.put({ann: 1, news: 0})
    registry.put({ann: 2, ("topics", "unknown"): None})
    assert listener.calls == [(ann, True), (news, True)]
    registry.put({ann: None})
    registry.put({ann: None})
    assert listener.calls[2:] == [(ann, False)]
    counts: list[object] = []
    registry.counts("topics").addCallback(counts.append)
    assert counts == [{}]
    registry.stop()
    assert listener.calls[3:] == [(news, False)]


def test_stopped_by_a_notification() -> None:
    """
    After a notification that stops the registry, no name of the same call begins.
    """

    class Stopping(Listener):
        def became_responsible(self, name: Name, *, is_new: bool) -> None:
            super().became_responsible(name, is_new=is_new)
            registry.stop()

    registry, listener = LocalRegistry(), Stopping()
    registry.listen(listener)
    registry.put({("topics", "a"): 1, ("topics", "b"): 1})
    assert listener.calls == [(("topics", "a"), True), (("topics", "a"), False)]
