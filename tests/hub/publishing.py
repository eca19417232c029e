"""
A process that publishes, and prints each id when it is acknowledged, until it is killed.
"""

import sys
from itertools import count

from twisted.internet import defer, task

from tests.hub.journals import Follower, update
from txsse.hub.sqlite import SQLiteJournal


async def main(reactor, path, synchronous):
    journal = SQLiteJournal(path, synchronous=synchronous)
    await journal.start(Follower())
    numbers = count()

    async def publish():
        for number in numbers:
            await journal.append(update(str(number)))
            print(number, flush=True)

    # Several at a time, so that transactions hold more than one.
    await defer.gatherResults([defer.ensureDeferred(publish()) for _ in range(10)])


task.react(main, sys.argv[1:])
