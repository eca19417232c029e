"""
A journal in a stream of Redis, which several processes share.
"""

from txsse.journal.redis.journal import RedisJournal

__all__ = ["RedisJournal"]
