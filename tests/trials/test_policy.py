"""
Trial: a policy "drop-oldest", in one new module.
"""

from __future__ import annotations

from tests.fakes import Wire
from tests.hub.fakes import World
from tests.trials.drop_oldest import DropOldestPolicy
from txsse import SSEChannel, SSEResource

SIZE = 4096


class DropOldestTests:
    def test_channel(self, wire: Wire) -> None:
        """
        With a third-party policy, a slow client gets the newest frames that fit, in order, and its channel
        stays open.
        """
        channels: list[SSEChannel] = []
        upgrader = wire.upgrader(slow_policy=DropOldestPolicy(), max_buffer=3 * SIZE)
        client = wire.connect(SSEResource(channels.append, upgrader=upgrader))
        client.request()
        (channel,) = channels
        client.stop_reading()
        for number in range(200):
            channel.send(f"{number:04}" + "x" * (SIZE - 100))
            wire.reactor.run_soon()
        assert (channel.is_open, channel.slow_policy) == (True, "drop-oldest")
        assert 2 * SIZE < channel.buffered <= 3 * SIZE
        assert channel.dropped > 100
        client.read_on()
        wire.reactor.run_soon()
        client.pump()
        numbers = [int(line[6:10]) for line in client.body.split(b"\n") if line.startswith(b"data: ")]
        assert numbers == sorted(numbers)
        assert numbers[-3:] == [197, 198, 199]
        assert len(numbers) == 200 - channel.dropped
        client.disconnect()

    def test_hub(self, plain: Wire) -> None:
        """
        A hub with a third-party policy buffers for a slow client, and does not move it to replay.
        """
        world = World(plain, upgrader={"slow_policy": DropOldestPolicy(), "max_buffer": 3 * SIZE})
        member = world.join()
        member.stop_reading()
        for number in range(200):
            world.publish(f"{number:04}" + "x" * (SIZE - 100))
            world.reactor.run_soon()
        assert world.hub.metrics().slow_replays == 0
        assert world.hub.metrics().drops > 100
        member.read_on()
        world.reactor.run_soon()
        assert [int(text[:4]) for text in member.texts][-3:] == [197, 198, 199]
        world.end()
