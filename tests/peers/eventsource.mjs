/*
 * Node's EventSource: reads [[url, types], ...] as JSON from stdin, follows all streams at once, and prints Node's
 * version and the notes for each stream as JSON.
 *
 *     node eventsource.mjs < asked.json
 */

import { text } from "node:stream/consumers";

import { EventSource } from "eventsource";

import { record } from "./record.mjs";

const asked = JSON.parse(await text(process.stdin));
const records = await Promise.all(asked.map(([url, types]) => record(EventSource, url, types)));
// Not process.exit(), which would lose output that is not yet written to the pipe.
process.stdout.write(JSON.stringify({ version: process.versions.node, records }));
