"""
Sends messages to all nodes of a cluster, receives them, and acknowledges them.

Strategy: each node has an inbox, a stream that it reads together with the journal's record. A broadcast adds
the message to the inbox of each node that is alive. A node whose listener has handled a message removes it
from its inbox, and adds an acknowledgement to the sender's inbox. After a lost connection, a node reads its
inbox from the beginning. If it knows the token of a message, it acknowledges the message again, and does not
pass it to the listener again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._randomness import Randomness
from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import JournalFailed, NotAcknowledged
from txsse.journal.cluster import IClusterListener, deliver
from txsse.journal.redis.replies import Argument, Run, StreamEntry, as_list_of_bytes
from txsse.journal.redis.stream_ids import to_number

__all__ = ["Broadcasts"]

_log = Logger()

# How many acknowledgements go into one command.
_MOST_ACKNOWLEDGED = 250


class _Sent:
    """
    A message that this node has sent and not all nodes have acknowledged.

    :ivar nodes: the nodes that it was sent to and that are alive; ``None`` until they are known.
    :ivar acknowledged: the nodes that acknowledged it.
    :ivar failed: the nodes that failed to handle it.
    :ivar replies: the replies of the nodes.
    """

    def __init__(self, done: Deferred[list[str]]) -> None:
        self.done = done
        self.replies: dict[str, str] = {}
        self.nodes: set[str] | None = None
        self.acknowledged: set[str] = set()
        self.failed: set[str] = set()
        self.expiry: IDelayedCall | None = None

    @property
    def is_complete(self) -> bool:
        return self.nodes is not None and self.nodes <= self.acknowledged | self.failed


class _Received:
    """
    A message in the inbox.

    :ivar entry: its entry.
    :ivar sender: the node that sent it.
    :ivar is_handled: whether the listener has handled it, or failed.
    :ivar failed: whether the listener failed.
    :ivar reply: whether the listener replied, and the reply.
    """

    __slots__ = ("entry", "failed", "is_handled", "reply", "sender")

    def __init__(self, entry: bytes, sender: bytes) -> None:
        self.entry = entry
        self.sender = sender
        self.is_handled = self.failed = False
        self.reply: tuple[int, str] = 0, ""

    def has_succeeded(self, reply: str | None) -> None:
        self.is_handled = True
        if reply is not None:
            self.reply = 1, reply

    def has_failed(self) -> None:
        self.is_handled = self.failed = True


class Broadcasts:
    """
    The messages of one node: those that it has sent, and those in its inbox.

    :param run: runs a command of the journal's script. Its Deferred may fail.
    :param node: the node's name.
    :param times: returns the time and the lifetime of a heartbeat, in milliseconds.
    :param randomness: the source of the tokens of messages.
    :ivar cursor: the entry up to which the inbox has been read.
    """

    def __init__(
        self,
        run: Run,
        node: str,
        times: Callable[[], tuple[int, int]],
        randomness: Randomness,
    ) -> None:
        self.cursor = 0
        self._run = run
        self._node = node
        self._randomness = randomness
        self._times = times
        self._sent: dict[str, _Sent] = {}
        # The messages in the inbox, by their tokens.
        self._received: dict[bytes, _Received] = {}
        self._failures = RateLimitedLog(_log)

    @property
    def are_pending(self) -> bool:
        """
        Whether this node waits for the acknowledgement of a message.
        """
        return bool(self._sent)

    def send(self, message: str, deadline: float, reactor: IReactorTime) -> Deferred[list[str]]:
        """
        Send a message to all nodes.

        :param deadline: how long to wait for acknowledgements, in seconds.
        """
        token = self._randomness.token(8).hex()
        done: Deferred[list[str]] = Deferred(lambda _: self._drop(token))
        sent = self._sent[token] = _Sent(done)
        sent.expiry = reactor.callLater(deadline, self._expire, token, deadline)
        asked = self._run("broadcast", *self._times(), self._node, token, message)
        ran = asked.addCallback(as_list_of_bytes)
        ran.addCallbacks(self._has_sent, self._has_not_sent, callbackArgs=(token,), errbackArgs=(token,))
        return done

    def receive(self, entries: Iterable[StreamEntry], listener: IClusterListener) -> None:
        """
        Process entries of the inbox: messages of other nodes and this one, and acknowledgements.
        """
        again: list[bytes] = []
        read: list[bytes] = []
        for entry, flat in entries:
            self.cursor = to_number(entry)
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            token, node = fields.get(b"token", b""), fields.get(b"from", b"")
            message = fields.get(b"message")
            if message is None:
                read.append(entry)
                self._has_acknowledged(_text_of(token), _text_of(node), fields)
            elif token not in self._received:
                received = self._received[token] = _Received(entry, node)
                handling = Deferred.fromCoroutine(deliver(listener, _text_of(message)))
                handling.addCallbacks(
                    received.has_succeeded, self._has_failed, errbackArgs=(received,)
                ).addCallback(lambda _, token: self._acknowledge([token]), token)
            elif self._received[token].is_handled:
                again.append(token)
        if read:
            self._run("received", self._node, *read).addErrback(lambda _: None)
        for start in range(0, len(again), _MOST_ACKNOWLEDGED):
            self._acknowledge(again[start : start + _MOST_ACKNOWLEDGED])

    def read_again(self) -> None:
        """
        Read the inbox from the beginning, because the last removals and acknowledgements may have been lost.
        """
        self.cursor = 0

    def keep(self, alive: Iterable[bytes]) -> None:
        """
        Stop waiting for the acknowledgements of nodes that are not alive.

        :param alive: the names of the other nodes that are alive.
        """
        nodes = {node.decode() for node in alive} | {self._node}
        for token, sent in list(self._sent.items()):
            if sent.nodes is not None:
                sent.nodes &= nodes
            self._complete(token)

    def lose(self, make_error: Callable[[], Exception]) -> None:
        """
        Fail all sent messages, because the connection to the server is lost.
        """
        for token in list(self._sent):
            self._finish(token, make_error())

    def _has_sent(self, nodes: Sequence[bytes], token: str) -> None:
        if token in self._sent:
            self._sent[token].nodes = {node.decode() for node in nodes}
            self._complete(token)

    def _has_not_sent(self, failure: Failure, token: str) -> None:
        self._finish(token, failure.value)

    def _has_acknowledged(self, token: str, node: str, fields: Mapping[bytes, bytes]) -> None:
        sent = self._sent.get(token)
        if sent is not None:
            failed = fields.get(b"failed") == b"1"
            (sent.failed if failed else sent.acknowledged).add(node)
            if b"reply" in fields:
                sent.replies[node] = _text_of(fields[b"reply"])
            self._complete(token)

    def _complete(self, token: str) -> None:
        sent = self._sent[token]
        if sent.is_complete:
            self._finish(token, NotAcknowledged(sorted(sent.failed)) if sent.failed else None)

    def _expire(self, token: str, deadline: float) -> None:
        sent = self._sent[token]
        if sent.nodes is None:
            problem = f"no reply for {deadline:g} s"
            self._finish(token, JournalFailed("the cluster", problem, uncertain=True))
        else:
            self._finish(token, NotAcknowledged(sorted(sent.nodes - sent.acknowledged)))

    def _finish(self, token: str, error: BaseException | None) -> None:
        sent = self._forget(token)
        if sent is not None:
            if error is None:
                sent.done.callback(list(sent.replies.values()))
            else:
                sent.done.errback(error)

    def _drop(self, token: str) -> None:
        self._forget(token)

    def _forget(self, token: str) -> _Sent | None:
        sent = self._sent.pop(token, None)
        if sent is not None and sent.expiry is not None and sent.expiry.active():
            sent.expiry.cancel()
        return sent

    def _has_failed(self, failure: Failure, received: _Received) -> None:
        self._failures.failure("this node failed to handle a cluster message", failure)
        received.has_failed()

    def _acknowledge(self, tokens: Sequence[bytes]) -> None:
        arguments: list[Argument] = []
        for token in tokens:
            received = self._received[token]
            arguments += [received.entry, received.sender, token, int(received.failed), *received.reply]
        ran = self._run("acknowledge", *self._times(), self._node, *arguments)
        # If this fails, the messages are acknowledged when the inbox is read again.
        ran.addCallbacks(lambda _: self._have_left(tokens), lambda _: None)

    def _have_left(self, tokens: Sequence[bytes]) -> None:
        for token in tokens:
            self._received.pop(token, None)


def _text_of(value: bytes) -> str:
    # Text that another program has added to an inbox must not end the connection.
    return value.decode("utf-8", "replace")
