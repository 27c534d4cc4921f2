/** Flow hooks: how long the switch waits for the answer of one that has to be asked. */
import { HookProcess } from '../src/hooks/process.ts';

const ASKED = 5000;
const SOURCE = `import { defineHook, deny } from 'weft';
export default defineHook({ name: 'a', onFlow: ({ destination }) => (destination.port === 22 ? deny('no shell') : undefined) });`;
const QUESTION =
  '[["tcp",4],"10.0.0.2",4000,["web","shop","blue"],[{"app":"web"},{}],"10.0.0.3",80,[null,null,null],[{},{}],null,[]]';

/** The median. */
export async function askedMicroseconds(): Promise<number> {
  const { process } = await HookProcess.start({ source: SOURCE, file: 'a.ts', host: 'a' });
  const times = Array.from({ length: ASKED }, () => {
    const from = performance.now();
    process.ask(QUESTION);
    return 1000 * (performance.now() - from);
  });
  process.close();
  return times.sort((a, b) => a - b)[ASKED >> 1]!;
}
