// @azure/service-bus for JavaScript.

import { AzureSASCredential } from '@azure/core-auth';
import { ServiceBusClient } from '@azure/service-bus';
import Long from 'long';
import WebSocket from 'ws';

import { assert, call, range, serve, sleep, until } from './protocol.mjs';

const TOPIC = 'variables';
const WAIT = { maxWaitTimeInMs: 8000 };
const QUICK = { retryOptions: { maxRetries: 3, retryDelayInMs: 300 } };


function connect(options, token, mode = 'plain', more = {}) {
  if (mode === 'plain') {
    const endpoint = `sb://localhost:${options.amqp}`;
    return new ServiceBusClient(
      `Endpoint=${endpoint};SharedAccessSignature=${token};UseDevelopmentEmulator=true`,
      { ...QUICK, ...more },
    );
  }
  if (mode === 'tls') {
    return new ServiceBusClient(
      `Endpoint=sb://localhost:${options.amqps};SharedAccessSignature=${token}`,
      { ...QUICK, ...more },
    );
  }
  return new ServiceBusClient(
    `Endpoint=sb://localhost:${options.https};SharedAccessSignature=${token}`,
    { ...QUICK, ...more, webSocketOptions: { webSocket: WebSocket } },
  );
}

class Feed {
  static async open(options, { mode = 'plain', count = 1, receiveMode = 'peekLock' } = {}) {
    const feed = new Feed();
    feed.base = Number(options.base);
    Object.assign(feed, await call('subscribe', { base: feed.base }));
    feed.token = (await call('token', { path: feed.address })).token;
    feed.client = connect(options, feed.token, mode);
    feed.receiver = feed.client.createReceiver(TOPIC, feed.id, {
      receiveMode,
    });
    if (count) await feed.publish(0, count);
    return feed;
  }

  publish(offset, count) {
    return call('publish', { base: this.base + offset, count });
  }

  async take(count = 1, receiver = this.receiver) {
    const got = [];
    const end = Date.now() + 10000;
    while (got.length < count && Date.now() < end) {
      got.push(...(await receiver.receiveMessages(count - got.length, WAIT)));
    }
    assert.equal(got.length, count);
    return got;
  }

  offsets(messages) {
    return messages.map((message) => message.applicationProperties.value - this.base);
  }

  async state() {
    const state = await call('state', { id: this.id });
    return Object.fromEntries(Object.entries(state).map(([key, value]) => [key, Number(value)]));
  }

  close() {
    return this.client.close();
  }
}

const on = (scenario, opening) => async (options) => {
  const feed = await Feed.open(options, opening);
  try {
    await scenario(feed, options);
  } finally {
    await feed.close();
  }
};

async function complete(feed) {
  const got = await feed.take(3);
  assert.deepEqual(feed.offsets(got), [0, 1, 2]);
  assert.equal(got[0].deliveryCount, 0);
  assert.ok(got[0].enqueuedTimeUtc instanceof Date);
  assert.ok(got[0].lockedUntilUtc > new Date());
  assert.deepEqual(got[0].body.value, feed.base);
  for (const message of got) await feed.receiver.completeMessage(message);
  const state = await feed.state();
  assert.equal(state.backlog, 0);
  assert.equal(state.locked, 0);
}

async function abandon(feed) {
  const [message] = await feed.take();
  await feed.receiver.abandonMessage(message);
  const [again] = await feed.take();
  assert.equal(again.deliveryCount, 1);
  assert.ok(again.sequenceNumber.equals(message.sequenceNumber));
  await feed.receiver.completeMessage(again);
}

async function properties(feed) {
  const [first] = await feed.take();
  await feed.receiver.abandonMessage(first, { tries: 1 });
  const [again] = await feed.take();
  assert.equal(again.applicationProperties.tries, 1);
  await feed.receiver.deferMessage(again, { tries: 2, note: 'later' });
  const [deferred] = await feed.receiver.receiveDeferredMessages(first.sequenceNumber);
  assert.deepEqual(
    [deferred.applicationProperties.tries, deferred.applicationProperties.note], [2, 'later']);
  await feed.receiver.completeMessage(deferred);
}

const REASON = { deadLetterReason: 'broken', deadLetterErrorDescription: 'very' };

async function deadLetter(feed) {
  const [message] = await feed.take();
  await feed.receiver.deadLetterMessage(message, REASON);
  const state = await feed.state();
  assert.deepEqual([state.dead, state.backlog], [1, 0]);
}

async function deadLetterQueue(feed) {
  await deadLetter(feed);
  const dead = feed.client.createReceiver(TOPIC, feed.id, { subQueueType: 'deadLetter' });
  assert.deepEqual(feed.offsets(await dead.peekMessages(5)), [0]);
  const [letter] = await feed.take(1, dead);
  assert.equal(letter.deadLetterReason, 'broken');
  assert.equal(letter.deadLetterErrorDescription, 'very');
  await dead.renewMessageLock(letter);
  await dead.completeMessage(letter);
  assert.equal((await feed.state()).dead, 0);
}

async function defer(feed) {
  const [first, second] = await feed.take(2);
  await feed.receiver.deferMessage(first);
  await feed.receiver.deferMessage(second);
  assert.equal((await feed.state()).deferred, 2);
  assert.deepEqual(
    (await feed.receiver.peekMessages(5)).map((message) => message.state),
    ['deferred', 'deferred'],
  );
  const [again] = await feed.receiver.receiveDeferredMessages(first.sequenceNumber);
  assert.deepEqual(feed.offsets([again]), [0]);
  await feed.receiver.renewMessageLock(again);
  await feed.receiver.completeMessage(again);
  const [other] = await feed.receiver.receiveDeferredMessages([second.sequenceNumber]);
  await feed.receiver.deadLetterMessage(other, { deadLetterReason: 'late' });
  assert.equal((await feed.state()).dead, 1);
  await assert.rejects(feed.receiver.receiveDeferredMessages(first.sequenceNumber));
}

async function renew(feed) {
  const [message] = await feed.take();
  const before = message.lockedUntilUtc;
  await sleep(1100);
  const end = await feed.receiver.renewMessageLock(message);
  assert.ok(end > before);
  await feed.receiver.completeMessage(message);
}

async function receiveAndDelete(feed) {
  assert.deepEqual(feed.offsets(await feed.take(3)), [0, 1, 2]);
  assert.equal((await feed.state()).backlog, 0);
}

async function peek(feed) {
  const [held] = await feed.take();
  const peeked = await feed.receiver.peekMessages(10, { fromSequenceNumber: Long.ONE });
  assert.deepEqual(feed.offsets(peeked), range(5));
  const rest = await feed.receiver.peekMessages(10, {
    fromSequenceNumber: peeked[3].sequenceNumber,
  });
  assert.deepEqual(feed.offsets(rest), [3, 4]);
  assert.deepEqual(await feed.receiver.peekMessages(1), []);
  await feed.receiver.completeMessage(held);
  assert.equal((await feed.state()).backlog, 4);
}

function subscribe(feed, receiver = feed.receiver) {
  const seen = [];
  const errors = [];
  const subscription = receiver.subscribe({
    processMessage: async (message) => { seen.push(...feed.offsets([message])); },
    processError: async (context) => { errors.push(context.error); },
  }, { maxConcurrentCalls: 5 });
  return { seen, errors, subscription };
}

async function stream(feed) {
  const { seen, subscription } = subscribe(feed);
  await feed.publish(0, 10);
  await until(() => seen.length === 10, 'ten messages');
  await feed.publish(10, 10);
  await until(() => seen.length === 20, 'twenty messages');
  assert.deepEqual(seen, range(20));
  await until(async () => (await feed.state()).backlog === 0, 'an empty backlog');
  await subscription.close();
  const iterated = [];
  await feed.publish(20, 5);
  for await (const message of feed.receiver.getMessageIterator({ maxWaitTimeInMs: 3000 })) {
    iterated.push(...feed.offsets([message]));
    await feed.receiver.completeMessage(message);
    if (iterated.length === 5) break;
  }
  assert.deepEqual(iterated, range(5, 20));
}

const disturbed = (disturb) => async (feed) => {
  const { seen, subscription } = subscribe(feed);
  await until(() => seen.length === 3, 'three messages');
  await until(async () => (await feed.state()).backlog === 0, 'an empty backlog');
  await disturb(feed);
  await feed.publish(3, 3);
  await until(() => new Set(seen).size === 6, 'all messages', 20000);
  await until(async () => (await feed.state()).backlog === 0, 'an empty backlog');
  await subscription.close();
};

// A static token is put again only every 45 minutes, so a token that changes must be a credential
// whose tokens the client asks for anew after a detach.
function rotating(options, token) {
  const credential = new AzureSASCredential(token);
  return [credential, new ServiceBusClient(`localhost:${options.amqps}`, credential, QUICK)];
}

async function tokenRenewal(options) {
  const made = await call('subscribe', { base: options.base });
  const short = () => call('token', { path: made.address, seconds: 5 });
  const [credential, client] = rotating(options, (await short()).token);
  const receiver = client.createReceiver(TOPIC, made.id);
  const seen = new Set();
  const subscription = receiver.subscribe({
    processMessage: async (message) => { seen.add(message.applicationProperties.value); },
    processError: async () => {},
  });
  for (let n = 0; n < 9; n += 1) {
    credential.update((await short()).token);
    await call('publish', { base: Number(options.base) + n });
    await sleep(1000);
  }
  credential.update((await call('token', { path: made.address })).token);
  await until(() => seen.size === 9, 'nine messages');
  await subscription.close();
  await client.close();
}

async function tokenExpiry(options) {
  const made = await call('subscribe', { base: options.base });
  const first = await call('token', { path: made.address, seconds: 3 });
  const [credential, client] = rotating(options, first.token);
  const receiver = client.createReceiver(TOPIC, made.id);
  const seen = new Set();
  const errors = [];
  const subscription = receiver.subscribe({
    processMessage: async (message) => { seen.add(message.applicationProperties.value); },
    processError: async (context) => { errors.push(context.error.code); },
  });
  await call('publish', { base: Number(options.base) });
  await until(() => seen.size === 1, 'the first message');
  await until(() => errors.includes('UnauthorizedAccess'), 'the end of the token');
  credential.update((await call('token', { path: made.address })).token);
  await call('publish', { base: Number(options.base) + 1 });
  await until(() => seen.size === 2, 'the second message', 30000);
  await subscription.close();
  await client.close();
}

const sending = (scenario) => async (feed, options) => {
  const client = connect(options, (await call('publisher')).token);
  try {
    await scenario(feed, client.createSender(TOPIC), client);
  } finally {
    await client.close();
  }
};

const message = (feed, offset = 0, more = {}) => ({
  body: { value: feed.base + offset },
  contentType: 'application/json',
  applicationProperties: { value: feed.base + offset },
  ...more,
});

const send = sending(async (feed, sender) => {
  await sender.sendMessages(message(feed, 0, { messageId: 'm1', subject: 'hello' }));
  const [got] = await feed.take();
  assert.deepEqual([got.messageId, got.subject, ...feed.offsets([got])], ['m1', 'hello', 0]);
  await feed.receiver.completeMessage(got);
});

const sendBatch = sending(async (feed, sender) => {
  const batch = await sender.createMessageBatch();
  for (const offset of range(50)) assert.ok(batch.tryAddMessage(message(feed, offset)));
  await sender.sendMessages(batch);
  await sender.sendMessages([message(feed, 50), message(feed, 51)]);
  const got = await feed.take(52);
  assert.deepEqual(feed.offsets(got), range(52));
  for (const each of got) await feed.receiver.completeMessage(each);
});

const sendScheduled = sending(async (feed, sender) => {
  const soon = new Date(Date.now() + 2000);
  const numbers = await sender.scheduleMessages(range(3).map((n) => message(feed, n)), soon);
  assert.equal(numbers.length, 3);
  await sender.cancelScheduledMessages(numbers[1]);
  await assert.rejects(sender.cancelScheduledMessages(numbers[1]));
  await sender.sendMessages(message(feed, 3, { scheduledEnqueueTimeUtc: soon }));
  await sender.sendMessages(message(feed, 4));
  const got = await feed.take(4);
  assert.deepEqual(feed.offsets(got).sort(), [0, 2, 3, 4]);
  for (const each of got) await feed.receiver.completeMessage(each);
});

const sendLarge = sending(async (feed, sender) => {
  const text = 'L'.repeat(900000);
  await sender.sendMessages(message(feed, 0, { body: text }));
  const [got] = await feed.take();
  assert.equal(got.body, text);
  await feed.receiver.completeMessage(got);
});

async function over(feed) {
  const [first, second] = await feed.take(2);
  await feed.receiver.renewMessageLock(first);
  await feed.receiver.completeMessage(first);
  await feed.receiver.abandonMessage(second);
  const [again] = await feed.take();
  await feed.receiver.completeMessage(again);
  assert.equal((await feed.state()).backlog, 0);
}

async function prefetch(feed) {
  const { seen, subscription } = subscribe(feed);
  await feed.publish(0, 200);
  await until(() => seen.length === 200, 'two hundred messages');
  await until(async () => (await feed.state()).backlog === 0, 'an empty backlog');
  await subscription.close();
}

async function tenReceivers(feed) {
  const all = range(10).map(() => subscribe(feed, feed.client.createReceiver(TOPIC, feed.id)));
  await until(async () => (await feed.state()).receivers === 10, 'ten receivers');
  await feed.publish(0, 200);
  const seen = () => all.flatMap((each) => each.seen);
  await until(() => seen().length >= 200, 'all messages');
  assert.deepEqual(seen().sort((a, b) => a - b), range(200));
  await until(async () => (await feed.state()).backlog === 0, 'an empty backlog');
  await Promise.all(all.map((each) => each.subscription.close()));
}

async function rules(feed) {
  const rules = feed.client.createRuleManager(TOPIC, feed.id);
  const found = [];
  for await (const rule of rules.listRules()) found.push(rule);
  assert.deepEqual(found.map((rule) => rule.name), ['$Default']);
  assert.equal(found[0].filter.sqlExpression, feed.filter);
  await assert.rejects(rules.createRule('mine', { sqlExpression: 'value > 1' }));
  await assert.rejects(rules.deleteRule('$Default'));
}

async function thousand(options) {
  const made = await Promise.resolve(call('subscribeMany', { base: options.base, count: 1000 }));
  const { token } = await call('token', { path: `${TOPIC}/Subscriptions` });
  const client = connect(options, token);
  const seen = [];
  const opened = made.ids.split(',').map((id) => client.createReceiver(TOPIC, id).subscribe({
    processMessage: async (each) => { seen.push(each.applicationProperties.value); },
    processError: async (context) => { console.error(context.error); },
  }, { maxConcurrentCalls: 1 }));
  await until(async () => Number((await call('receivers')).count) >= 1000, 'receivers', 200000);
  await call('publish', { base: options.base });
  await until(() => seen.length === 1000, 'a message on each', 200000);
  void opened;
  await client.close();
}

await serve({
  complete: on(complete, { count: 3 }),
  abandon: on(abandon),
  'dead-letter': on(deadLetter),
  'dead-letter queue': on(deadLetterQueue),
  defer: on(defer, { count: 2 }),
  renew: on(renew),
  properties: on(properties),
  'receive and delete': on(receiveAndDelete, { count: 3, receiveMode: 'receiveAndDelete' }),
  peek: on(peek, { count: 5 }),
  stream: on(stream, { count: 0 }),
  'reconnect after a close': on(disturbed(() => call('close')), { count: 3 }),
  'reconnect after a restart': on(disturbed(() => call('restart')), { count: 3 }),
  'reconnect after a detach':
    on(disturbed((feed) => call('detach', { address: feed.address })), { count: 3 }),
  'token renewal': tokenRenewal,
  'token expiry': tokenExpiry,
  send: on(send, { count: 0 }),
  'send a batch': on(sendBatch, { count: 0 }),
  'send scheduled': on(sendScheduled, { count: 0 }),
  'send 900 KB': on(sendLarge, { count: 0 }),
  TLS: on(over, { count: 2, mode: 'tls' }),
  WebSocket: on(over, { count: 2, mode: 'websocket' }),
  prefetch: on(prefetch, { count: 0 }),
  'ten receivers': on(tenReceivers, { count: 0 }),
  rules: on(rules, { count: 0 }),
  'a thousand subscriptions': thousand,
});
