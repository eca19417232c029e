/*
 * Node's EventSource: takes [[url, types], ...] as JSON, follows them all at once, and prints its version
 * and what each showed.
 *
 *     node eventsource.mjs < asked.json
 */

import { text } from "node:stream/consumers";

import { EventSource } from "eventsource";

import { record } from "./record.mjs";

const asked = JSON.parse(await text(process.stdin));
const records = await Promise.all(asked.map(([url, types]) => record(EventSource, url, types)));
// Not process.exit(): what goes into a pipe may still be on its way.
process.stdout.write(JSON.stringify({ version: process.versions.node, records }));
