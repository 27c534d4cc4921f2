/** Flow hooks: how long the switch waits for the answer of one that has to be asked. */
import { compileHook } from '../src/hooks/compile.ts';
import { HookThread } from '../src/hooks/thread.ts';

const ASKED = 5000;
const SOURCE = `import { defineHook, deny } from 'weft';
export default defineHook({ name: 'a', onFlow: ({ destination }) => (destination.port === 22 ? deny('no shell') : undefined) });`;
const QUESTION =
  '[["tcp",4],"10.0.0.2",4000,["web","shop","blue"],[{"app":"web"},{}],"10.0.0.3",80,[null,null,null],[{},{}],null,[]]';

/** The median. */
export async function askedMicroseconds(): Promise<number> {
  const { thread } = await HookThread.start(await compileHook(SOURCE, 'a.ts'), { host: 'a', onLost: () => {} });
  const times = Array.from({ length: ASKED }, () => {
    const from = performance.now();
    thread.ask(QUESTION);
    return 1000 * (performance.now() - from);
  });
  thread.close();
  return times.sort((a, b) => a - b)[ASKED >> 1]!;
}
