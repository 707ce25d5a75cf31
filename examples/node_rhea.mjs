// Read a filtered feed with rhea: node node_rhea.mjs [FILTER [COUNT]]
//
// Reads HOTPATH_TOKEN, HOTPATH_URL (http://127.0.0.1:8080) and, for a private authority,
// HOTPATH_CA. First: npm install rhea

import { readFileSync } from 'node:fs';
import rhea from 'rhea';

const service = process.env.HOTPATH_URL ?? 'http://127.0.0.1:8080';
const [wanted = 'true', count = '10'] = process.argv.slice(2);

async function call(method, path, body) {
  const response = await fetch(service + path, {
    method,
    headers: {
      Authorization: `Bearer ${process.env.HOTPATH_TOKEN}`, 'Content-Type': 'application/json',
    },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response.status === 204 ? {} : response.json();
}

const made = await call('POST', '/subscriptions/variables', {
  filter: wanted, subscriptionTTL: 60, sasTokenTTL: 30,
});
const feed = new URL(made.connectionURL);
const secure = feed.protocol === 'amqps:';
const ca = process.env.HOTPATH_CA && readFileSync(process.env.HOTPATH_CA);
console.error(`reading ${count} messages with: ${wanted}`);

let left = Number(count);
const connection = rhea.create_container().connect({
  host: feed.hostname,
  port: Number(feed.port || (secure ? 5671 : 5672)),
  username: 'any',
  password: made.sasToken,
  ...(secure ? { transport: 'tls', servername: feed.hostname, ca } : {}),
});
connection.open_receiver({ source: feed.pathname.slice(1), autoaccept: false, credit_window: 10 });
connection.on('message', (context) => {
  if (left === 0) return;
  console.log(context.message.body.content.toString());
  context.delivery.accept();
  left -= 1;
  if (left === 0) connection.close();
});
connection.on('receiver_error', (context) => {
  console.error(context.receiver.error.description);
  connection.close();
});
connection.on('connection_close', () => {
  call('DELETE', `/subscriptions/variables/${feed.pathname.split('/').pop()}`);
});
