"""
The registry of a cluster: the names that its nodes hold, and which node is responsible for each name.

A hub registers the topics that have subscribers, and whose streams they are. A name belongs to a group. Each
node that holds a name says how often; the node that held it first is responsible for it until no node holds
it any more, or until that node ends, when another one takes its names over.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed
from zope.interface import Interface, implementer

__all__ = ["AnyRegistry", "IRegistry", "IRegistryListener", "LocalRegistry", "Name", "Registry"]

#: A group, and a name in it: a ``str``, an ``int``, ``None``, or a tuple of these, where nodes share it.
Name: TypeAlias = tuple[str, Hashable]


class IRegistryListener(Protocol):
    """
    The receiver of notifications about a node's names. Its methods must not raise exceptions.
    """

    def became_responsible(self, name: Name, *, is_new: bool) -> None:
        """
        Learn that this node is responsible for a name.

        :param is_new: whether no node held the name before; otherwise another node was responsible, and has
            ended.
        """

    def no_longer_responsible(self, name: Name, *, is_over: bool) -> None:
        """
        Learn that this node is not responsible for a name any more.

        :param is_over: whether no node holds the name; otherwise another node is responsible now. After
            :meth:`IRegistry.stop`, this may be called a second time, when that is known.
        """

    def taken_over(self, name: Name) -> None:
        """
        Learn that this node holds a name, with the count 0, that a node held which has ended.
        """


class IRegistry(Interface):
    """
    The names that nodes hold. All methods are called in the reactor's thread.

    Counts that cannot be sent, because the server of the cluster is out of reach, are sent later. A node that
    ended without :meth:`stop` holds its names until the others notice it, some seconds later.
    """

    def listen(listener: IRegistryListener) -> None:  # noqa: N805
        """
        Notify a listener from now on. The hub calls this once, before all other methods.
        """

    def put(counts: Mapping[Name, int | None]) -> None:  # noqa: N805
        """
        Hold names from now on, each with a count, which may be 0; ``None`` to release a name.
        """

    def counts(group: str) -> Deferred[dict[Hashable, int]]:  # noqa: N805
        """
        Return the names of a group that *other* nodes hold, each with the sum of their counts.

        :returns: a Deferred. It fails with :exc:`~txsse.errors.JournalFailed` if the server of the cluster
            cannot be reached.
        """

    def stop() -> None:
        """
        Release all names. The listener is no longer responsible for any.
        """


class Registry(Protocol):
    """
    The methods of :class:`IRegistry`, for type checkers that do not support zope.interface.
    """

    def listen(self, listener: IRegistryListener, /) -> None: ...  # noqa: D102

    def put(self, counts: Mapping[Name, int | None], /) -> None: ...  # noqa: D102

    def counts(self, group: str, /) -> Deferred[dict[Hashable, int]]: ...  # noqa: D102

    def stop(self) -> None: ...  # noqa: D102


# For type checkers that do not support zope.interface; see :mod:`txsse._typing`.
AnyRegistry: TypeAlias = IRegistry | Registry


@implementer(IRegistry)
class LocalRegistry:
    """
    The registry of a single node, which is responsible for each name that it holds.
    """

    def __init__(self) -> None:
        self._listener: IRegistryListener | None = None
        self._held: set[Name] = set()
        self._has_stopped = False

    def listen(self, listener: IRegistryListener) -> None:
        """
        Notify a listener from now on.
        """
        self._listener = listener

    def put(self, counts: Mapping[Name, int | None]) -> None:
        """
        Hold names, or release them.
        """
        assert self._listener is not None
        for name, count in counts.items():
            if self._has_stopped:
                # A notification has stopped it: a name that came after that would have no end.
                return
            if count is None and name in self._held:
                self._held.discard(name)
                self._listener.no_longer_responsible(name, is_over=True)
            elif count is not None and name not in self._held:
                self._held.add(name)
                self._listener.became_responsible(name, is_new=True)

    def counts(self, group: str) -> Deferred[dict[Hashable, int]]:
        """
        Return no names, as no other node exists.
        """
        return succeed({})

    def stop(self) -> None:
        """
        Release all names.
        """
        assert self._listener is not None
        self._has_stopped = True
        held, self._held = self._held, set()
        for name in held:
            self._listener.no_longer_responsible(name, is_over=True)
