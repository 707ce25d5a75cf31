// Receives webhooks and believes only those that are signed with the stream's secret.
//
//     WEBHOOK_SECRET=… node webhook_receiver.mjs [PORT]
//
// No dependencies. For the open Internet put it behind a server that speaks TLS.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.WEBHOOK_SECRET;
if (!secret) {
  console.error("set WEBHOOK_SECRET");
  process.exit(2);
}
const toleranceSeconds = 300;
const seenMax = 10_000;
const bodyMax = 2 * 1024 * 1024;
const seen = new Set();

// Standard Webhooks: base64 behind `whsec_`; else the secret's own bytes.
const key = secret.startsWith("whsec_")
  ? Buffer.from(secret.slice(6), "base64")
  : Buffer.from(secret, "utf8");

function same(one, other) {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// Who signed, and that it was just now.
function verify(headers, body) {
  const id = headers["webhook-id"] ?? "";
  const moment = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(moment)) return false;
  if (Math.abs(Date.now() / 1000 - Number(moment)) > toleranceSeconds) return false;
  const digest = createHmac("sha256", key).update(`${id}.${moment}.`).update(body).digest("base64");
  const given = (headers["webhook-signature"] ?? "").split(" ");
  return given.some((each) => same(each, `v1,${digest}`));
}

// An event may come twice: its id is the same then.
function isRepeated(id) {
  if (seen.has(id)) return true;
  seen.add(id);
  if (seen.size > seenMax) seen.delete(seen.values().next().value);
  return false;
}

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > bodyMax) return null;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const server = createServer(async (request, response) => {
  const body = await read(request);
  if (body === null || !verify(request.headers, body)) {
    response.writeHead(401).end();
    return;
  }
  if (!isRepeated(request.headers["webhook-id"])) {
    const event = JSON.parse(body);
    const note = event.changed ? "" : " (unchanged)";
    console.log(`${event.lastUpdatedAt} ${event.id} = ${event.value}${note}`);
  }
  response.writeHead(204).end();
});

server.listen(Number(process.argv[2] ?? 9000), "127.0.0.1", () => {
  console.log(`receiving at http://127.0.0.1:${server.address().port}/`);
});
