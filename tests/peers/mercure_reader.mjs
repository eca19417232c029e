/*
 * Follows a hub with one of Node's clients, and prints what the client shows: a JSON array on each line.
 *
 *     node mercure_reader.mjs '{"client": "eventsource", "url": "...", "headers": {}, "types": [], "onclose": "end", "json": false}'
 */

const { client, url, headers, types, onclose, json } = JSON.parse(process.argv[2]);
const note = (...each) => process.stdout.write(JSON.stringify(each) + "\n");

async function eventsource() {
  const { EventSource } = await import("eventsource");
  const source = new EventSource(url, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  });
  source.addEventListener("open", () => note("open"));
  source.addEventListener("error", ({ code }) => note("error", code ?? null, source.readyState));
  for (const type of ["message", ...types]) {
    source.addEventListener(type, ({ type, data, lastEventId }) => note("event", type, data, lastEventId));
  }
}

async function fetchEventSource() {
  // Made for browsers, of which it uses only whether the page is visible.
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = await import("@microsoft/fetch-event-source");
  const fatal = new Error("refused");
  const reading = fetchEventSource(url, {
    headers,
    async onopen(response) {
      note("open", response.status, response.headers.get("Mercure-Last-Event-ID"));
      if (!response.ok) throw fatal;
    },
    onmessage({ event, data, id }) {
      if (json) JSON.parse(data);
      note("event", event, data, id);
    },
    onclose() {
      note("close");
      // Its README recommends this to reconnect.
      if (onclose === "again") throw new Error("closed");
    },
    onerror(error) {
      if (error === fatal) throw error;
    },
  });
  await reading.then(() => note("end"), (error) => note("failed", error.message));
}

await { eventsource, "fetch-event-source": fetchEventSource }[client]();
