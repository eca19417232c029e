"""
A process that publishes retained updates until it is killed, and prints each id when its update is
acknowledged.
"""

import sys
from itertools import count

from twisted.internet import defer, task

from tests.journal.journals import Follower
from txsse import ServerSentEvent, Update
from txsse.journal.retention import Retention
from txsse.journal.urls import journal_named

KEYS = 7


def retained(number):
    """
    Each third update with a key removes it.
    """
    key = f"key {number % KEYS}"
    if number // KEYS % 3 == 2:
        event = ServerSentEvent(key, "unretain", str(number))
        return Update(["news", "sport"], event, retention=Retention(key))
    return Update(["news", "sport"], ServerSentEvent("x", id=str(number)), retention=Retention(key))


async def main(reactor, name):
    journal = journal_named(name, max_count=10**9)
    await journal.start(Follower())
    numbers = count()

    async def publish():
        for number in numbers:
            await journal.append(retained(number))
            print(number, flush=True)

    # Ten publishers at a time, so that a transaction has several updates.
    await defer.gatherResults([defer.ensureDeferred(publish()) for _ in range(10)])


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
