"""
The journal in a Redis stream, which several processes share.
"""

from txsse.journal.redis.journal import RedisJournal

__all__ = ["RedisJournal"]
