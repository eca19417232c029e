"""
A process that adds revocations until it is killed, and prints the value of each when it is acknowledged.
"""

import sys
from itertools import count
from typing import Any

from twisted.internet import defer, task

from tests.journal.journals import Follower
from txsse.journal.revocations import Revocation
from txsse.journal.urls import journal_named


async def main(reactor, name):
    journal: Any = journal_named(name)
    await journal.start(Follower())
    numbers = count()

    async def revoke():
        for number in numbers:
            await journal.revocations.add(Revocation("jti", str(number), 0, float("inf")))
            print(number, flush=True)

    # Ten at a time, so that a kill finds some under way.
    await defer.gatherResults([defer.ensureDeferred(revoke()) for _ in range(10)])


task.react(main, sys.argv[1:])
