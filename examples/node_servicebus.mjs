// Read a filtered feed with @azure/service-bus: node node_servicebus.mjs [FILTER [COUNT]]
//
// Reads HOTPATH_TOKEN and HOTPATH_URL (http://127.0.0.1:8080). A private authority goes into
// NODE_EXTRA_CA_CERTS. First: npm install @azure/service-bus

import { ServiceBusClient } from '@azure/service-bus';

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
const [topic, , id] = feed.pathname.slice(1).split('/');
const plain = feed.protocol === 'amqp:' ? ';UseDevelopmentEmulator=true' : '';
const client = new ServiceBusClient(
  `Endpoint=sb://${feed.host};SharedAccessSignature=${made.sasToken}${plain}`,
);
console.error(`reading ${count} messages with: ${wanted}`);
try {
  const receiver = client.createReceiver(topic, id);
  let left = Number(count);
  for await (const message of receiver.getMessageIterator()) {
    console.log(JSON.stringify(message.body));
    await receiver.completeMessage(message);
    left -= 1;
    if (left === 0) break;
  }
} finally {
  await client.close();
  await call('DELETE', `/subscriptions/variables/${id}`);
}
