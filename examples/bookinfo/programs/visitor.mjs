/**
 * A visitor, who asks again and again. Each question is a connection of its own, and each answer a line of JSON: its number
 * `n`, when it began (`atMs`, milliseconds since the epoch) and how long it took (`tookMs`), with `answer` or with `failed`.
 *
 *   node visitor.mjs reviews:9080/reviews/0 --every 50
 *
 *   --every MS     the time between two questions; 50 if not given. While 20 are unanswered, it asks no more
 *   --count N      how many; without end if not given
 *   --at-once N    instead of --every: so many at a time, each one when the last has been answered
 *   --keep         all of them over one connection
 *
 * Asked to end (SIGTERM, SIGINT), it waits for the answers that are missing.
 */
import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ask } from './serve.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    every: { type: 'string', default: '50' },
    count: { type: 'string', default: 'Infinity' },
    'at-once': { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});
const [, where, path] = /^([^/]+)(\/.*)$/.exec(positionals[0] ?? '') ?? [];
if (where === undefined) throw new Error('what to ask is missing, such as reviews:9080/reviews/0');
const count = Number(values.count);
const agent = values.keep && new Agent({ keepAlive: true, maxSockets: 1 });
const ending = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => ending.abort());

/** More would only make programs slower that are slow already. */
const UNANSWERED = 20;
let asked = 0;
if (values['at-once'] === undefined) await askInTime(Number(values.every));
else await Promise.all(Array.from({ length: Number(values['at-once']) }, askInTurn));
if (agent) agent.destroy();

async function askInTime(everyMs) {
  const questions = new Set();
  for (let next = performance.now(); mayAsk(); next = Math.max(next + everyMs, performance.now())) {
    const question = askOnce().finally(() => questions.delete(question));
    questions.add(question);
    if (questions.size >= UNANSWERED) await Promise.race(questions);
    await delay(Math.max(0, next + everyMs - performance.now()), undefined, { signal: ending.signal }).catch(() => {});
  }
  await Promise.all(questions);
}

async function askInTurn() {
  while (mayAsk()) await askOnce();
}

function mayAsk() {
  return asked < count && !ending.signal.aborted;
}

async function askOnce() {
  const n = asked++;
  const atMs = Date.now();
  const outcome = await ask(where, path, agent).then(
    (answer) => ({ answer }),
    (error) => ({ failed: error.message || error.code }),
  );
  console.log(JSON.stringify({ n, atMs, tookMs: Date.now() - atMs, ...outcome }));
}
