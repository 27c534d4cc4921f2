/**
 * The thread of one hook.
 *
 *   1. it gives up its capabilities
 *   2. the context is made, and the hook loaded in it (`inside.ts`); the switch is told what came of that
 *   3. it waits for questions in memory that it shares with the switch, and answers them (`exchange.ts`)
 *
 * From then on its event loop stands still. A hook that does not return is ended with its thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { dropCapabilities } from '../addon/privileges.ts';
import { openContext } from './context.ts';
import { Exchange } from './exchange.ts';
import type { HookThreadStart } from './thread.ts';

const { memory, ...options } = workerData as HookThreadStart;

dropCapabilities();
const { loaded, ask } = openContext(options);
parentPort!.postMessage(loaded);
new Exchange(memory).answer(ask);
