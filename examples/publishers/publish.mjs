// HUB_KEY=... HUB_URL=http://localhost:8080/.well-known/mercure node publish.mjs news 'Hello'
// Needs Node 18 or newer and no package. HUB_KEY is the hub's secret. Prints the id of the update.

import { createHmac, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const { HUB_URL: url, HUB_KEY: key } = process.env;

function makeToken(topic) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const detail = {
    type: "https://mercure.rocks/authorization-detail",
    actions: ["publish"],
    topics: [{ match: topic }],
  };
  const claims = { aud: url, exp: Math.floor(Date.now() / 1000) + 300, authorization_details: [detail] };
  const signed = `${encode({ typ: "at+jwt", alg: "HS256" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}

async function publish(topic, data) {
  // With its own id, an update can be published again if the response was lost: it appears once.
  const body = new URLSearchParams({ topic, data, id: `urn:uuid:${randomUUID()}` });
  const headers = { Authorization: `Bearer ${makeToken(topic)}` };
  for (let attempt = 1; ; attempt++) {
    let problem;
    try {
      const answer = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(30000) });
      const said = await answer.text();
      if (answer.ok) return said;
      problem = new Error(`${answer.status}: ${said.trim()}`);
      if (![502, 503, 504].includes(answer.status)) throw problem;
    } catch (error) {
      if (error === problem) throw error;
      problem = new Error(`${url} does not answer: ${error.cause?.message ?? error.message}`);
    }
    if (attempt === 5) throw problem;
    await sleep(attempt * 1000);
  }
}

try {
  console.log(await publish(...process.argv.slice(2)));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
