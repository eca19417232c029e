"""
A third-party overflow policy in one module: a full buffer drops its oldest frames.
"""

from txsse import OverflowPolicy
from txsse.server.buffer import FrameBuffer


class DropOldestPolicy(OverflowPolicy):
    name = "drop-oldest"

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        while len(buffer) and not buffer.has_room(size):
            buffer.drop_oldest()
        return True
