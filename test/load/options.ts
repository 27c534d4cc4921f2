/** The options of the load test. */
import { parseArgs } from 'node:util';
import type { LoadOptions, Sizes } from './scenario.ts';

export interface RunOptions extends LoadOptions {
  /** Which scenarios: names, or beginnings of them. */
  readonly only: readonly string[];
  /** The file that gets the results. */
  readonly json: string | undefined;
  /** True if the figures in the documentation are to be written anew. */
  readonly docs: boolean;
}

type SizeOption = Exclude<keyof Sizes, 'watched'>;

const sizeOptions = {
  'real-hosts': { size: 'realHosts', byDefault: 5, what: 'daemons of cluster/real, at most 5' },
  'real-endpoints': { size: 'realEndpoints', byDefault: 1000, what: 'endpoints of cluster/real' },
  'simulated-hosts': { size: 'simulatedHosts', byDefault: 50, what: 'switches of cluster/simulated' },
  'simulated-endpoints': { size: 'simulatedEndpoints', byDefault: 5000, what: 'endpoints of cluster/simulated' },
  'endpoints-per-host': { size: 'endpointsPerHost', byDefault: 100, what: 'endpoints on each host of cluster/watched' },
  churn: { size: 'churn', byDefault: 50, what: 'endpoints that come, and that go, a second' },
  window: { size: 'window', byDefault: 15, what: 'seconds for which a daemon rests, and endpoints come and go' },
  relisted: { size: 'relisted', byDefault: 100_000, what: 'endpoints of relist' },
} as const satisfies Record<string, { size: SizeOption; byDefault: number; what: string }>;

const WATCHED = '1000,5000,20000,50000,100000';

/** @throws Error with one line that says what is accepted */
export function parseOptions(args: readonly string[]): RunOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '60' },
      only: { type: 'string', multiple: true, default: [''] },
      json: { type: 'string' },
      docs: { type: 'boolean', default: false },
      watched: { type: 'string', default: WATCHED },
      ...Object.fromEntries(
        Object.entries(sizeOptions).map(([name, { byDefault }]) => [
          name,
          { type: 'string', default: `${byDefault}` } as const,
        ]),
      ),
    },
  });
  if (values.help) return 'help';
  const given = values as Readonly<Record<string, unknown>>;
  const sizes = Object.fromEntries(
    Object.entries(sizeOptions).map(([name, { size }]) => [size, whole(`--${name}`, String(given[name]))]),
  ) as Record<SizeOption, number>;
  const watched = values.watched.split(',').map((text) => whole('--watched', text));
  if (watched.some((size, at) => size <= (watched[at - 1] ?? 0))) {
    throw new Error(`--watched: ${values.watched} is not ascending: each size is reached from the one before`);
  }
  return {
    seconds: whole('--seconds', values.seconds),
    only: values.only,
    json: values.json,
    docs: values.docs,
    sizes: { ...sizes, watched },
  };
}

export function usage(scenarios: readonly { readonly name: string }[]): string {
  const lines = Object.entries(sizeOptions).map(
    ([name, { byDefault, what }]) => `  --${name} N`.padEnd(28) + `${what} (${byDefault})`,
  );
  return `usage: npm run test:load -- [OPTION]…
  --only NAME               a scenario, or the beginning of its name; may be given several times
  --seconds N               how long a flood lasts (60)
${lines.join('\n')}
  --watched N,N…            endpoints of cluster/watched, one size after the other (${WATCHED})
  --json FILE               where the results go
  --docs                    writes the figures and curves of docs/scale.md anew, from cluster/…
scenarios:
${scenarios.map(({ name }) => `  ${name}\n`).join('')}`;
}

function whole(option: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text))
    throw new Error(`${option}: ${text} is not accepted: a whole number of 1 or more is expected`);
  return Number(text);
}
