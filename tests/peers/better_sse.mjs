/*
 * better-sse on Node, for tests/peers/test_servers.py. The argument is a file with [[id, type, text], ...] as JSON.
 *
 *     node better_sse.mjs TEXTS
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";

import { createSession } from "better-sse";

const texts = JSON.parse(await readFile(process.argv[2]));
let open = 0;

// Sends some texts after the client's last event id, and 204 if the client has all.
async function sendTexts(request, response, { searchParams }) {
  const last = Buffer.from(request.headers["last-event-id"] ?? "", "latin1").toString();
  const start = texts.findIndex(([id]) => id === last) + 1;
  if (start === texts.length) return response.writeHead(204).end();
  const session = await createSession(request, response, { retry: 10 });
  for (const [id, type, data] of texts.slice(start, start + Number(searchParams.get("each"))))
    session.push(data, type, id);
  response.end();
}

async function sendKinds(request, response) {
  const session = await createSession(request, response, { retry: 10, serializer: String });
  await session.batch((buffer) => {
    buffer.comment("data: x").dispatch();
    buffer.data("neither id nor type").dispatch();
    buffer.id("7").dispatch();
    buffer.event("größe").data("one").data("").data("two").dispatch();
    buffer.data("").id("№ 8 · 古池 🐸").dispatch();
    buffer.comment().dispatch();
    buffer.id("").data("no id any more").dispatch();
    buffer.event("no data").dispatch();
    buffer.id("9").dispatch();
    buffer.retry(20).data("the last").dispatch();
  });
}

async function sendKeepAlives(request, response) {
  const session = await createSession(request, response, { keepAlive: 10, serializer: String });
  session.push("before", "message", "1");
  await setTimeout(200);
  session.push("after", "message", "2");
}

async function echo(request, response) {
  const { method, headers } = request;
  const body = await text(request);
  const session = await createSession(request, response, { serializer: String });
  session.push(JSON.stringify({ method, body, headers }), "message", "1");
}

const pages = { "/texts": sendTexts, "/kinds": sendKinds, "/keep-alives": sendKeepAlives, "/echo": echo };

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/open") return response.end(`${open}`);
  open++;
  response.on("close", () => open--);
  return pages[url.pathname](request, response, url);
});
server.listen(0, "127.0.0.1", () => console.log(`Serving http://127.0.0.1:${server.address().port}`));
