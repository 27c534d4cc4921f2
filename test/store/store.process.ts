/**
 * `write DIR FROM`: writes numbers from FROM on and prints each when it is durable. `hold DIR`: opens the directory and
 * keeps it.
 */
import { writeSync } from 'node:fs';
import { openEmbeddedStore } from '../../src/store/embedded.ts';

const [verb, directory = '', from = '0'] = process.argv.slice(2);
const say = (text: string): number => writeSync(1, `${text}\n`);
try {
  const store = await openEmbeddedStore({ directory, onWarning: () => {}, after: () => () => {} });
  if (verb === 'hold') {
    say('held');
    setInterval(() => {}, 60_000);
  } else {
    const text = 'x'.repeat(20_000);
    for (let next = Number(from); ; next += 3) {
      const numbers = [next, next + 1, next + 2];
      await Promise.all(
        numbers.map(async (number) => {
          const put = [
            { key: `k/${number}`, value: number },
            { key: 'bulk', value: text },
          ];
          await store.transact({ put });
          say(String(number));
        }),
      );
    }
  }
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  say(`${code} ${message}`);
}
