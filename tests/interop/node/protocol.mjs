// How a client program talks to the tests; see clients/protocol.py.

import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function nextLine() {
  const { value, done } = await lines.next();
  if (done) process.exit(0);
  return value.split('\t');
}

const fields = (words) =>
  Object.fromEntries(words.map((word) => {
    const at = word.indexOf('=');
    return [word.slice(0, at), word.slice(at + 1)];
  }));

/** Ask the operator of the service. */
export async function call(command, given = {}) {
  const words = Object.entries(given).map(([key, value]) => `${key}=${value}`);
  process.stdout.write(['call', command, ...words].join('\t') + '\n');
  const [kind, ...rest] = await nextLine();
  if (kind !== 'ok') throw new Error(rest.join(' '));
  return fields(rest);
}

/** Carry out what the tests ask for. */
export async function serve(scenarios) {
  process.on('unhandledRejection', (reason) => console.error('unhandled', reason));
  for (;;) {
    const [, name, ...words] = await nextLine();
    try {
      await scenarios[name](fields(words));
      process.stdout.write('done\tpassed\n');
    } catch (error) {
      console.error(error);
      const text = String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, 600);
      process.stdout.write(`done\tfailed\t${error?.name}: ${text}\n`);
    }
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Wait until something holds. */
export async function until(holds, what = 'a condition', ms = 15000) {
  const end = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await sleep(25);
  }
}

export const range = (count, first = 0) => Array.from({ length: count }, (_, n) => first + n);

export { assert };
