/**
 * The program of the process that one hook runs in.
 *
 *   1. it reads what it is to run, and removes its types (`compile.ts`)
 *   2. it confines itself: from then on it can compute and answer the switch, and nothing else
 *   3. the context is made, and the hook loaded in it (`inside.ts`); the switch is told what came of that
 *   4. it answers questions for as long as the switch asks
 *
 * Its event loop stands still from then on. A hook that does not return is ended with its process.
 */
import { readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { confine, MOST_MESSAGE_BYTES, PARTNER_SOCKET } from '../addon/partner.ts';
import { WeftError } from '../error.ts';
import type { LoadAnswer } from './answers.ts';
import { compileHook } from './compile.ts';
import { NO_ANSWER, openContext } from './context.ts';
import { BEGUN, type HookProcessStart } from './process.ts';

const { parent, source, file, host } = JSON.parse(readFileSync(0, 'utf8')) as HookProcessStart;

/** When memory runs out, the kernel is to end this process before others. */
function offerToOomKiller(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // It is as likely as others, then.
  }
}

function say(text: string): void {
  writeSync(PARTNER_SOCKET, Buffer.byteLength(text) > MOST_MESSAGE_BYTES ? NO_ANSWER : text);
}

try {
  const compiled = await compileHook(source, file);
  offerToOomKiller();
  confine(parent);
  say(BEGUN);
  const { loaded, ask } = openContext({ ...compiled, host });
  say(loaded);
  const question = Buffer.alloc(MOST_MESSAGE_BYTES);
  for (;;) {
    const length = readSync(PARTNER_SOCKET, question, 0, question.length, null);
    if (length === 0) break;
    say(ask(question.toString('utf8', 0, length)));
  }
} catch (error) {
  const code = error instanceof WeftError && error.code === 'invalid' ? 'invalid' : 'system';
  say(JSON.stringify(['failed', (error as Error).message, code] satisfies LoadAnswer));
}
process.exit();
