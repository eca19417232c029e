"""
A process that publishes updates until it is killed, and prints each id when its update is acknowledged.
"""

import sys
from itertools import count

from twisted.internet import defer, task

from tests.journal.journals import Follower, update
from txsse.journal.urls import journal_named


async def main(reactor, name, synchronous=None):
    options = {} if synchronous is None else {"synchronous": synchronous}
    journal = journal_named(name, max_count=10**9, **options)
    await journal.start(Follower())
    numbers = count()

    async def publish():
        for number in numbers:
            await journal.append(update(str(number)))
            print(number, flush=True)

    # Ten publishers at a time, so that a transaction has several updates.
    await defer.gatherResults([defer.ensureDeferred(publish()) for _ in range(10)])


task.react(main, sys.argv[1:])
