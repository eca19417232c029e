/*
 * better-sse on Node: sessions in a channel, and broadcast().
 *
 *     node with_better_sse.mjs PORT KEEPALIVE
 */

import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setImmediate, setTimeout } from "node:timers/promises";

// The set-up installs it in the working directory, not beside this file.
const { createChannel, createSession } = createRequire(`${process.cwd()}/`)("better-sse");

const [port, keepalive] = process.argv.slice(2).map(Number);
const padding = "x".repeat(69);
const channel = createChannel();
const responses = new Set();
let next = 1_000_000_000;

async function subscribe(request, response) {
  responses.add(response);
  response.on("close", () => responses.delete(response));
  const session = await createSession(request, response, { keepAlive: keepalive * 1000, serializer: String });
  channel.register(session);
}

async function publish(turns, burst, interval) {
  const began = performance.now();
  for (let turn = 1; turn <= turns; turn++) {
    const at = process.hrtime.bigint().toString().padStart(19, "0");
    for (let i = 0; i < burst; i++) channel.broadcast(`${next++} ${at} ${padding}`);
    for (const response of responses) if (response.writableNeedDrain) await once(response, "drain");
    const rest = began + turn * interval * 1000 - performance.now();
    if (rest > 0) await setTimeout(rest);
    else await setImmediate();
  }
}

createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/events") return subscribe(request, response);
  const asked = (name) => Number(url.searchParams.get(name));
  await publish(asked("turns"), asked("burst"), asked("interval"));
  response.end();
}).listen({ host: "127.0.0.1", port, backlog: 1024 });
