// rhea, and with the argument "promise" rhea-promise on top of it: AMQP 1.0 clients that know
// nothing of the Service Bus. They log in with SASL PLAIN and the token as the password.

import { readFileSync } from 'node:fs';
import rhea from 'rhea';
import * as promised from 'rhea-promise';
import WebSocket from 'ws';

import { assert, call, range, serve, sleep, until } from './protocol.mjs';

const TOPIC = 'variables';
const PROMISED = process.argv[2] === 'promise';
const { message: messages } = rhea;

function where(options, mode) {
  if (mode === 'tls') {
    const secure = { transport: 'tls', ca: readFileSync(options.ca), servername: 'localhost' };
    return { host: 'localhost', port: Number(options.amqps), ...secure };
  }
  if (mode.startsWith('websocket')) {
    const open = rhea.websocket_connect(WebSocket);
    const [scheme, port] = mode === 'websocket' ? ['wss', options.https] : ['ws', options.http];
    const url = `${scheme}://localhost:${port}/$servicebus/websocket`;
    return {
      host: 'localhost', port: Number(port),
      connection_details: open(url, ['amqp'], { ca: readFileSync(options.ca) }),
      webSocketOptions: {
        webSocket: WebSocket, url, protocol: ['amqp'], options: { ca: readFileSync(options.ca) },
      },
    };
  }
  return { host: 'localhost', port: Number(options.amqp) };
}

// Without a token: SASL ANONYMOUS, and tokens are put by $cbs.
async function connect(options, token, mode = 'plain') {
  const login = token ? { username: 'any', password: token } : { username: 'anonymous' };
  const settings = {
    ...where(options, mode), ...login,
    initial_reconnect_delay: 100, max_reconnect_delay: 500,
  };
  if (PROMISED) {
    const { webSocketOptions, connection_details: _, ...rest } = settings;
    const more = webSocketOptions ? { webSocketOptions } : {};
    const connection = new promised.Connection({ ...rest, ...more });
    await connection.open();
    return {
      receiver: (given) => connection.createReceiver({ ...given, onMessage: given.onMessage }),
      sender: (given) => connection.createAwaitableSender(given),
      send: (sender, message, tag, format) => sender.send(message, { tag, format }),
      close: () => connection.close(),
    };
  }
  delete settings.webSocketOptions;
  const connection = rhea.create_container().connect(settings);
  // Its automatic reconnect must be given time; errors on the way are told here.
  connection.on('connection_error', () => {});
  connection.on('disconnected', () => {});
  connection.on('error', () => {});
  await opened(connection, 'connection');
  return {
    receiver: async ({ onMessage, onError, ...given }) => {
      const receiver = connection.open_receiver(given);
      receiver.on('message', onMessage);
      if (onError) receiver.on('receiver_error', onError);
      await opened(receiver, 'receiver');
      return receiver;
    },
    sender: async (given) => {
      const sender = connection.open_sender(given);
      await opened(sender, 'sender');
      if (!sender.sendable()) await new Promise((resolve) => sender.once('sendable', resolve));
      return sender;
    },
    send: (sender, message, tag, format) => new Promise((resolve, reject) => {
      const delivery = sender.send(message, tag, format);
      const settle = (context) => {
        if (context.delivery !== delivery) return;
        sender.off('accepted', settle).off('rejected', settle);
        if (delivery.remote_state?.error) reject(new Error(delivery.remote_state.error.condition));
        else resolve();
      };
      sender.on('accepted', settle).on('rejected', settle);
    }),
    close: () => new Promise((resolve) => {
      connection.once('connection_close', resolve);
      connection.once('disconnected', resolve);
      connection.close();
    }),
  };
}

function opened(endpoint, kind) {
  return new Promise((resolve, reject) => {
    endpoint.once(`${kind}_open`, resolve);
    endpoint.once(`${kind}_error`, (context) => reject(context[kind].error));
    endpoint.once('disconnected', () => reject(new Error('disconnected')));
  });
}

class Feed {
  static async open(options, { mode = 'plain', count = 1 } = {}) {
    const feed = new Feed();
    feed.base = Number(options.base);
    feed.got = [];
    Object.assign(feed, await call('subscribe', { base: feed.base }));
    feed.token = (await call('token', { path: feed.address })).token;
    feed.connection = await connect(options, feed.token, mode);
    if (count) await feed.publish(0, count);
    return feed;
  }

  publish(offset, count) {
    return call('publish', { base: this.base + offset, count });
  }

  // credit_window 0: credit is given by hand, and outcomes too.
  async receive({ address = this.address, credit = 100, source = {}, onGot, ...more } = {}) {
    const receiver = await this.connection.receiver({
      source: { address, ...source }, credit_window: 0, autoaccept: false, autosettle: true,
      rcv_settle_mode: 0, ...more,
      onMessage: (context) => {
        this.got.push(context);
        onGot?.(context);
      },
      onError: (context) => { this.error = context.receiver?.error; },
    });
    (receiver.addCredit ?? receiver.add_credit).call(receiver, credit);
    return receiver;
  }

  async take(count = 1) {
    await until(() => this.got.length >= count, `${count} messages, ${this.got.length} came`);
    return this.got.splice(0, count);
  }

  offset(context) {
    return context.message.application_properties.value - this.base;
  }

  async state() {
    const state = await call('state', { id: this.id });
    return Object.fromEntries(Object.entries(state).map(([key, value]) => [key, Number(value)]));
  }

  close() {
    return this.connection.close();
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

const isEmpty = (feed) =>
  until(async () => (await feed.state()).backlog === 0, 'an empty backlog');

async function complete(feed) {
  await feed.receive();
  const got = await feed.take(3);
  assert.deepEqual(got.map((each) => feed.offset(each)), [0, 1, 2]);
  assert.equal(got[0].message.delivery_count, 0);
  assert.equal(typeof got[0].message.message_annotations['x-opt-sequence-number'], 'number');
  got.forEach((each) => each.delivery.accept());
  await isEmpty(feed);
}

async function abandon(feed) {
  await feed.receive();
  const [first] = await feed.take();
  first.delivery.modified({ delivery_failed: true, undeliverable_here: false });
  const [again] = await feed.take();
  assert.equal(again.message.delivery_count, 1);
  again.delivery.release();
  const [third] = await feed.take();
  assert.equal(third.message.delivery_count, 1);
  third.delivery.accept();
  await isEmpty(feed);
}

const because = { condition: 'broken', description: 'very' };

async function deadLetter(feed) {
  await feed.receive();
  const [message] = await feed.take();
  message.delivery.reject(because);
  await until(async () => (await feed.state()).dead === 1, 'a dead letter');
  assert.equal((await feed.state()).backlog, 0);
}

async function deadLetterQueue(feed) {
  await deadLetter(feed);
  await feed.receive({ address: `${feed.address}/$DeadLetterQueue` });
  const [letter] = await feed.take();
  assert.equal(letter.message.application_properties.DeadLetterReason, 'broken');
  letter.delivery.accept();
  await until(async () => (await feed.state()).dead === 0, 'no dead letter');
}

// A node that answers requests, as AMQP clients without an SDK use it.
async function requester(feed, address) {
  const name = `replies-${Math.random()}`;
  const replies = [];
  const receiver = await feed.connection.receiver({
    name, source: { address }, target: { address: name }, credit_window: 0, autoaccept: true,
    onMessage: (context) => replies.push(context.message),
  });
  (receiver.addCredit ?? receiver.add_credit).call(receiver, 50);
  const sender = await feed.connection.sender({ target: { address }, source: { address: name } });
  let number = 0;
  return async (operation, body) => {
    number += 1;
    await feed.connection.send(sender, {
      message_id: `request-${number}`, reply_to: name,
      application_properties: { operation: `com.microsoft:${operation}` }, body,
    });
    await until(() => replies.length > 0, `the reply to ${operation}`);
    const reply = replies.shift();
    assert.equal(reply.correlation_id, `request-${number}`);
    return { status: reply.application_properties.statusCode, body: reply.body };
  };
}

const { types } = rhea;
const longs = (...numbers) => types.wrap_array(numbers, 0x81, undefined);

async function defer(feed) {
  await feed.receive();
  const [first] = await feed.take();
  const number = first.message.message_annotations['x-opt-sequence-number'];
  first.delivery.modified({ delivery_failed: true, undeliverable_here: true });
  await until(async () => (await feed.state()).deferred === 1, 'a deferred message');
  const ask = await requester(feed, `${feed.address}/$management`);
  const { status, body } = await ask('receive-by-sequence-number', {
    'sequence-numbers': longs(number), 'receiver-settle-mode': types.wrap_uint(1),
  });
  assert.equal(status, 200);
  const [{ message, 'lock-token': token }] = body.messages;
  assert.equal(messages.decode(message).application_properties.value, feed.base);
  const settled = await ask('update-disposition', {
    'disposition-status': 'completed', 'lock-tokens': types.wrap_array([token], 0x98, undefined),
  });
  assert.equal(settled.status, 200);
  await isEmpty(feed);
}

async function renew(feed) {
  await feed.receive();
  const [message] = await feed.take();
  const ask = await requester(feed, `${feed.address}/$management`);
  const tag = Buffer.from(message.delivery.tag);
  const token = Buffer.concat([
    tag.subarray(0, 4).reverse(), tag.subarray(4, 6).reverse(), tag.subarray(6, 8).reverse(),
    tag.subarray(8),
  ]);
  const { status, body } = await ask('renew-lock', {
    'lock-tokens': types.wrap_array([token], 0x98, undefined),
  });
  assert.equal(status, 200);
  assert.ok(body.expirations[0] >= message.message.message_annotations['x-opt-locked-until']);
  message.delivery.accept();
  await isEmpty(feed);
}

async function peek(feed) {
  const ask = await requester(feed, `${feed.address}/$management`);
  const from = (number, count) => ask('peek-message', {
    'from-sequence-number': types.wrap_long(number), 'message-count': types.wrap_int(count),
  });
  const { status, body } = await from(1, 10);
  assert.equal(status, 200);
  const peeked = body.messages.map((each) => messages.decode(each.message));
  assert.deepEqual(
    peeked.map((each) => each.application_properties.value - feed.base), range(5));
  const last = peeked[4].message_annotations['x-opt-sequence-number'];
  assert.equal((await from(last + 1, 1)).status, 204);
  assert.equal((await feed.state()).backlog, 5);
}

async function properties(feed) {
  await feed.receive();
  const [first] = await feed.take();
  first.delivery.modified({
    delivery_failed: true, undeliverable_here: false, message_annotations: { tries: 1 },
  });
  const [again] = await feed.take();
  assert.equal(again.message.application_properties.tries, 1);
  again.delivery.accept();
  await isEmpty(feed);
}

async function rules(feed) {
  const ask = await requester(feed, `${feed.address}/$management`);
  const { status, body } = await ask('enumerate-rules', {
    top: types.wrap_int(100), skip: types.wrap_int(0),
  });
  assert.equal(status, 200);
  // A described list: its filter, action and name, each with its type.
  const [filter, , name] = body.rules[0]['rule-description'].value;
  assert.equal(filter.value[0].value, feed.filter);
  assert.equal(name.value, '$Default');
  assert.equal((await ask('add-rule', { 'rule-name': 'mine' })).status, 501);
}

async function receiveAndDelete(feed) {
  await feed.receive({ snd_settle_mode: 1 });
  const got = await feed.take(3);
  assert.deepEqual(got.map((each) => feed.offset(each)), [0, 1, 2]);
  assert.equal((await feed.state()).backlog, 0);
}

const accepting = { onGot: (context) => context.delivery.accept() };

async function stream(feed) {
  await feed.receive(accepting);
  await feed.publish(0, 10);
  await until(() => feed.got.length === 10, 'ten messages');
  await feed.publish(10, 10);
  const got = await feed.take(20);
  assert.deepEqual(got.map((each) => feed.offset(each)), range(20));
  await isEmpty(feed);
}

// After a reconnect rhea attaches its links again, without the credit given by hand.
const disturbed = (disturb) => async (feed) => {
  const wanted = { ...accepting, credit_window: 10, credit: 0 };
  const receiver = await feed.receive(wanted);
  const seen = () => new Set(feed.got.map((each) => feed.offset(each))).size;
  // These libraries open a lost connection again, with its links. A link whose feed moves to
  // another node of a cluster is detached, and to attach again is the application's.
  const attached = async () => {
    if (feed.error?.condition !== 'amqp:link:detach-forced') return;
    feed.error = undefined;
    await feed.receive(wanted).catch((error) => { feed.error = error; });
  };
  await until(() => seen() === 3, 'three messages');
  await isEmpty(feed);
  await disturb(feed);
  await feed.publish(3, 3);
  await until(async () => { await attached(); return seen() === 6; }, 'all messages', 20000);
  await isEmpty(feed);
  void receiver;
};

async function detached(feed) {
  await feed.receive(accepting);
  await until(() => feed.got.length === 3, 'three messages');
  await isEmpty(feed);
  await call('detach', { address: feed.address });
  await until(() => feed.error, 'the detach');
  assert.equal(feed.error.condition, 'amqp:link:detach-forced');
  await feed.receive(accepting);
  await feed.publish(3, 3);
  await until(() => feed.got.length === 6, 'all messages');
  await isEmpty(feed);
}

async function putToken(ask, feed, seconds) {
  const { token } = await call('token', { path: feed.address, seconds });
  await ask(token);
}

// With $cbs: tokens are put on the connection, links last as long as they do.
async function withCbs(options, scenario) {
  const feed = new Feed();
  feed.base = Number(options.base);
  feed.got = [];
  Object.assign(feed, await call('subscribe', { base: feed.base }));
  feed.connection = await connect(options);
  try {
    const replies = [];
    const receiver = await feed.connection.receiver({
      name: 'cbs-replies', source: { address: '$cbs' }, target: { address: 'cbs-replies' },
      credit_window: 0, autoaccept: true, onMessage: (context) => replies.push(context.message),
    });
    (receiver.addCredit ?? receiver.add_credit).call(receiver, 50);
    const sender = await feed.connection.sender({ target: { address: '$cbs' } });
    await scenario(feed, (seconds) => putToken(async (token) => {
      await feed.connection.send(sender, {
        message_id: 'put', reply_to: 'cbs-replies', body: token,
        application_properties: {
          operation: 'put-token', type: 'servicebus.windows.net:sastoken',
          name: `amqp://localhost/${feed.address}`,
        },
      });
      await until(() => replies.length > 0, 'the reply of $cbs');
      assert.equal(replies.shift().application_properties['status-code'], 200);
    }, feed, seconds));
  } finally {
    await feed.connection.close();
  }
}

async function tokenRenewal(options) {
  await withCbs(options, async (feed, put) => {
    await put(4);
    await feed.receive(accepting);
    for (const n of range(7)) {
      await feed.publish(n, 1);
      await sleep(1000);
      await put(4);
    }
    await until(() => feed.got.length === 7, 'seven messages');
    assert.equal(feed.error, undefined);
  });
}

async function tokenExpiry(options) {
  await withCbs(options, async (feed, put) => {
    await put(2);
    await feed.receive(accepting);
    await feed.publish(0, 1);
    await until(() => feed.got.length === 1, 'the first message');
    await until(() => feed.error, 'the end of the token');
    assert.equal(feed.error.condition, 'amqp:unauthorized-access');
    await put(60);
    await feed.receive(accepting);
    await feed.publish(1, 1);
    await until(() => feed.got.length === 2, 'the second message');
  });
}

const sending = (scenario) => async (feed, options) => {
  const connection = await connect(options, (await call('publisher')).token);
  try {
    const sender = await connection.sender({ target: { address: TOPIC } });
    await feed.receive(accepting);
    await scenario(feed, (message, format) => connection.send(sender, message, undefined, format));
  } finally {
    await connection.close();
  }
};

const made = (feed, offset, more = {}) => ({
  body: messages.data_section(Buffer.from('{"x":1}')), content_type: 'application/json',
  application_properties: { value: feed.base + offset }, ...more,
});

const send = sending(async (feed, put) => {
  await put(made(feed, 0, { message_id: 'm1', subject: 'hello' }));
  const [got] = await feed.take();
  assert.deepEqual([got.message.message_id, got.message.subject], ['m1', 'hello']);
});

const sendBatch = sending(async (feed, put) => {
  const all = range(50).map((n) => messages.encode(made(feed, n)));
  await put(messages.encode({ body: messages.data_sections(all) }), 0x80013700);
  const got = await feed.take(50);
  assert.deepEqual(got.map((each) => feed.offset(each)), range(50));
});

const sendScheduled = sending(async (feed, put) => {
  const due = types.wrap_timestamp(Date.now() + 2000);
  await put(made(feed, 0, { message_annotations: { 'x-opt-scheduled-enqueue-time': due } }));
  await put(made(feed, 1));
  const got = await feed.take(2);
  assert.deepEqual(got.map((each) => feed.offset(each)), [1, 0]);
});

const sendLarge = sending(async (feed, put) => {
  const body = Buffer.alloc(900000, 'L');
  await put(made(feed, 0, { body: messages.data_section(body) }));
  const [got] = await feed.take();
  assert.equal(Buffer.compare(got.message.body.content, body), 0);
});

async function over(feed) {
  await feed.receive(accepting);
  await feed.take(2);
  await isEmpty(feed);
}

async function prefetch(feed) {
  await feed.receive({ ...accepting, credit: 0, credit_window: 50 });
  await feed.publish(0, 200);
  const got = await feed.take(200);
  assert.deepEqual(got.map((each) => feed.offset(each)), range(200));
  await isEmpty(feed);
}

async function tenReceivers(feed) {
  for (const n of range(10)) await feed.receive({ ...accepting, name: `receiver-${n}` });
  assert.equal((await feed.state()).receivers, 10);
  await feed.publish(0, 200);
  const got = await feed.take(200);
  assert.deepEqual(got.map((each) => feed.offset(each)).sort((a, b) => a - b), range(200));
  await isEmpty(feed);
}

async function thousand(options) {
  const feed = new Feed();
  feed.base = Number(options.base);
  feed.got = [];
  const { ids } = await call('subscribeMany', { base: feed.base, count: 1000 });
  const { token } = await call('token', { path: `${TOPIC}/Subscriptions` });
  feed.connection = await connect(options, token);
  await Promise.all(ids.split(',').map((id) => feed.receive({
    ...accepting, name: id, address: `${TOPIC}/Subscriptions/${id}`, credit: 5,
  })));
  await feed.publish(0, 1);
  await until(() => feed.got.length === 1000, 'a message on each', 200000);
  await feed.close();
}

await serve({
  complete: on(complete, { count: 3 }),
  abandon: on(abandon),
  'dead-letter': on(deadLetter),
  'dead-letter queue': on(deadLetterQueue),
  defer: on(defer),
  renew: on(renew),
  'receive and delete': on(receiveAndDelete, { count: 3 }),
  peek: on(peek, { count: 5 }),
  properties: on(properties),
  rules: on(rules, { count: 0 }),
  stream: on(stream, { count: 0 }),
  'reconnect after a close': on(disturbed(() => call('close')), { count: 3 }),
  'reconnect after a restart': on(disturbed(() => call('restart')), { count: 3 }),
  'reconnect after a detach': on(detached, { count: 3 }),
  'token renewal': tokenRenewal,
  'token expiry': tokenExpiry,
  send: on(send, { count: 0 }),
  'send a batch': on(sendBatch, { count: 0 }),
  'send scheduled': on(sendScheduled, { count: 0 }),
  'send 900 KB': on(sendLarge, { count: 0 }),
  TLS: on(over, { count: 2, mode: 'tls' }),
  WebSocket: on(over, { count: 2, mode: 'websocket' }),
  'WebSocket without TLS': on(over, { count: 2, mode: 'websocket-plain' }),
  prefetch: on(prefetch, { count: 0 }),
  'ten receivers': on(tenReceivers, { count: 0 }),
  'a thousand subscriptions': thousand,
});
