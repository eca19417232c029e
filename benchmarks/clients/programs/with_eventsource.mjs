/*
 * Node's eventsource: node with_eventsource.mjs URL EVENTS TYPE
 */

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The set-up installs it in the working directory, not beside this file.
const entry = createRequire(`${process.cwd()}/`).resolve("eventsource");
const { EventSource } = await import(pathToFileURL(entry));

const [url, events, type] = process.argv.slice(2);
const expected = Number(events);
let left = expected;
let size = 0;
let before;

const source = new EventSource(url);
source.addEventListener("error", (error) => {
  console.error(String(error.message));
  process.exit(1);
});
source.addEventListener(type, (event) => {
  if (left === expected) before = process.cpuUsage();
  left -= 1;
  size += event.data.length;
  if (left) return;
  const { user, system } = process.cpuUsage(before);
  source.close();
  const last = [event.data, event.type, event.lastEventId];
  process.stdout.write(JSON.stringify({ user: user / 1e6, system: system / 1e6, seen: { size, last } }));
});
