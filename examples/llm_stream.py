# python examples/llm_stream.py "What is a stream?"
# Asks a language model, and prints the answer word by word as it arrives. A second argument is the URL
# of the model's API; its key is in $API_KEY. Without a URL, a local stub answers.

import json
import os
import sys

from twisted.internet import endpoints, interfaces, task
from twisted.web import server

from txsse import EventSource, SSEChannel, SSEResource, Upgrader


class Model(SSEResource):  # the stub
    async def channel_opened(self, channel: SSEChannel) -> None:
        request = channel.request.original
        assert request and request.content
        question = json.load(request.content)["messages"][-1]["content"]
        for word in f"You asked: {question} I am a stub and know no answer.".split():
            channel.send_json({"choices": [{"delta": {"content": word + " "}}]})
            await task.deferLater(channel.reactor, 0.05)
        channel.send("[DONE]")


async def ask(url: str, question: str) -> None:
    source = EventSource(
        url,
        method="POST",
        body=json.dumps({"stream": True, "messages": [{"role": "user", "content": question}]}).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {os.environ.get('API_KEY', '')}",
        },
        # A second attempt would generate the answer again, and cost again.
        max_attempts=1,
    )
    async for event in source:
        if event.data == "[DONE]":
            source.close()
        else:
            delta = json.loads(event.data)["choices"][0]["delta"]
            print(delta.get("content") or "", end="", flush=True)
    print()


async def main(reactor: interfaces.IReactorTime, question: str = "What is a stream?", url: str = "") -> None:
    if not url:
        endpoint = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        model = Model(upgrader=Upgrader(methods=["POST"], any_accept=True))
        listening = await endpoint.listen(server.Site(model))
        url = f"http://127.0.0.1:{listening.getHost().port}/"
    try:
        await ask(url, question)
    except Exception as error:
        raise SystemExit(f"No answer: {error}") from None


task.react(main, sys.argv[1:])
