// One run of a rhea client: reads a JSON order from its first argument, prints a JSON report.
//
//   {port, tls?, ca?, cert?, key?, username?, password?, idle?, token?, audience?,
//    send?: {address, messages: [{properties, body}]},
//    receive?: {address, count, outcome?, rcv_settle_mode?, snd_settle_mode?, drain?, seconds?}}

'use strict';

const fs = require('fs');
const rhea = require('rhea');

const order = JSON.parse(process.argv[2]);
const report = { received: [], outcomes: [], errors: [], cbs: [] };
const container = rhea.create_container({ id: 'rhea-' + process.pid });

function finish(connection) {
  setImmediate(() => connection.close());
}

function noteError(kind, source) {
  const error = source && source.error;
  report.errors.push({
    kind,
    condition: error && error.condition,
    description: error && error.description,
  });
}

function putToken(connection, done) {
  const replies = connection.open_receiver({
    source: { address: '$cbs' }, name: 'cbs-replies', credit_window: 10,
  });
  const requests = connection.open_sender({ target: { address: '$cbs' }, name: 'cbs-requests' });
  requests.once('sendable', () => {
    requests.send({
      message_id: 'put-1',
      to: '$cbs',
      reply_to: 'cbs-replies',
      application_properties: {
        operation: 'put-token',
        type: 'servicebus.windows.net:sastoken',
        name: order.audience,
      },
      body: order.token,
    });
  });
  replies.on('message', (context) => {
    const properties = context.message.application_properties;
    report.cbs.push([context.message.correlation_id, properties['status-code']]);
    replies.close();
    requests.close();
    done();
  });
}

function settleAs(context, outcome) {
  const delivery = context.delivery;
  switch (outcome) {
    case 'release': return delivery.release();
    case 'reject': return delivery.reject({ condition: 'app:bad', description: 'no good' });
    case 'modify': return delivery.modified({ delivery_failed: true, undeliverable_here: false });
    default: return delivery.accept();
  }
}

function receive(connection, done) {
  const wanted = order.receive;
  const options = { source: { address: wanted.address }, credit_window: 0, autoaccept: false };
  for (const mode of ['rcv_settle_mode', 'snd_settle_mode']) {
    if (wanted[mode] !== undefined) options[mode] = wanted[mode];
  }
  const receiver = connection.open_receiver(options);
  const waitsForAnswers = wanted.rcv_settle_mode === 1;
  let settled = 0;
  receiver.on('receiver_open', () => {
    if (wanted.drain) receiver.drain_credit();
    receiver.add_credit(wanted.count);
  });
  receiver.on('receiver_drained', () => { report.drained = true; done(); });
  receiver.on('message', (context) => {
    const message = context.message;
    report.received.push({
      value: message.application_properties && message.application_properties.value,
      delivery_count: message.delivery_count || 0,
      sequence: message.message_annotations['x-opt-sequence-number'],
      settled: context.delivery.remote_settled,
      tag: Buffer.from(context.delivery.tag).length,
    });
    if (!context.delivery.remote_settled) settleAs(context, wanted.outcome);
    if (!waitsForAnswers && report.received.length === wanted.count) done();
  });
  receiver.on('settled', () => {
    settled += 1;
    report.outcomes.push('settled');
    if (settled === wanted.count) done();
  });
  receiver.on('receiver_error', () => noteError('receiver', receiver));
  receiver.on('receiver_close', () => finish(connection));
}

function send(connection, done) {
  const messages = order.send.messages.slice();
  const sender = connection.open_sender(order.send.address);
  const total = messages.length;
  sender.on('sendable', () => {
    while (messages.length && sender.sendable()) {
      const next = messages.shift();
      const body = typeof next.body === 'string' ? next.body : Buffer.from(JSON.stringify(next.body));
      sender.send({ application_properties: next.properties, body: typeof body === 'string' ? body
        : rhea.message.data_section(body) });
    }
  });
  const outcome = (name) => (context) => {
    const state = context.delivery.remote_state;
    report.outcomes.push(state && state.error ? [name, state.error.condition] : [name]);
    if (report.outcomes.length === total) done();
  };
  sender.on('accepted', outcome('accepted'));
  sender.on('rejected', outcome('rejected'));
  sender.on('released', outcome('released'));
  sender.on('sender_error', () => noteError('sender', sender));
  sender.on('sender_close', () => finish(connection));
}

const options = {
  host: order.tls ? 'localhost' : '127.0.0.1',
  port: order.port,
  reconnect: false,
  idle_time_out: order.idle,
  username: order.username,
  password: order.password,
  transport: order.tls ? 'tls' : 'tcp',
};
if (order.ca) options.ca = [fs.readFileSync(order.ca)];
if (order.cert) {
  options.cert = fs.readFileSync(order.cert);
  options.key = fs.readFileSync(order.key);
  options.enable_sasl_external = true;
}

const connection = container.connect(options);
connection.on('connection_open', () => {
  report.container = connection.remote && connection.container_id;
  const steps = [];
  if (order.token) steps.push(putToken);
  if (order.send) steps.push(send);
  if (order.receive) steps.push(receive);
  const next = () => {
    const step = steps.shift();
    if (step) step(connection, next);
    else if (order.linger) setTimeout(() => finish(connection), order.linger);
    else finish(connection);
  };
  next();
});
connection.on('connection_error', () => noteError('connection', connection));

let printed = false;
function print() {
  if (!printed) {
    printed = true;
    process.stdout.write(JSON.stringify(report));
  }
}
connection.on('disconnected', (context) => {
  if (context.error) report.errors.push({ kind: 'transport', description: String(context.error) });
  print();
});
connection.on('connection_close', print);
setTimeout(() => { noteError('time', {}); print(); process.exit(1); }, 15000).unref();
