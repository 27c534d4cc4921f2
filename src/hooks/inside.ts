/**
 * The inside of a hook's context, whose code nobody trusts: it may come from a store that many write to.
 *
 * `inside` is passed to the context as text, and runs there before the hook does. So it uses only its arguments and the language,
 * and everything that it makes is of that context. What goes in and out is text. So no object of Node's gets in, by whose constructor
 * the hook would reach what its process has. It would find little there: the process is confined (`process.ts`).
 *
 *   1. what a hook does not need goes: clocks and randomness, which would make it another function each time; buffers, whose
 *      memory is not part of the heap; and whatever waits
 *   2. the hook is loaded
 *   3. it is asked: it reads the flow by getters, which note what it has read
 */

import type { TreatmentLimits } from '../table/hooks.ts';

/** What the context keeps of its global names. */
const KEPT =
  'Object Function Array String Number Boolean Symbol BigInt Map Set WeakMap WeakSet Math JSON RegExp Reflect Error EvalError RangeError ReferenceError SyntaxError TypeError URIError AggregateError NaN Infinity undefined parseInt parseFloat isNaN isFinite globalThis';
export const keptGlobals: readonly string[] = KEPT.split(' ');

/** The most that a backend can weigh. */
export const MOST_WEIGHT = 1_000_000;

/** The hook's module, as a function of the context. */
export type HookModule = (module: { exports: object }, exports: object, require: (name: string) => unknown) => void;

export interface Inside {
  /** @returns JSON of an `InsideLoadAnswer` */
  readonly load: (run: HookModule) => string;
  /** @param question JSON: the values of all groups, in their order @returns JSON of an `InsideAnswer` */
  readonly ask: (question: string) => string;
}

/** What has gone wrong, and its line and column, 0 if they are not known. */
export type InsideFailure = readonly [string, number, number];

/** The name of the hook; or why it cannot be loaded. */
export type InsideLoadAnswer = readonly ['loaded', string] | readonly ['failed', InsideFailure, 'invalid'];

/** What it sets: a mark, 0 for none; a DSCP, -1 for none; 1000 bits, and packets a second, 0 for no limit; and who shares these. */
export type InsideTreatment = readonly [number, number, number, number, string];

/**
 * What it says; why, or JSON of the weights of the backends; what it has read: the number of each group with the base 36, in
 * order; and what it sets.
 */
export type InsideAnswer =
  | readonly ['allow' | 'balance' | 'deny' | 'reject', string, string, InsideTreatment?]
  | readonly ['failed', InsideFailure, string];

export interface InsideOptions {
  readonly host: string;
  /** The name of its code in the stacks of errors. */
  readonly file: string;
  readonly kept: readonly string[];
  readonly mostWeight: number;
  readonly limits: TreatmentLimits;
}

export function inside(
  weft: Readonly<Record<string, unknown>>,
  { host, file, kept, mostWeight, limits }: InsideOptions,
): Inside {
  const { parse, stringify } = JSON;
  const { freeze, defineProperty, keys } = Object;
  const { round } = Math;
  const MOST_TEXT = 200;
  type Said = {
    readonly verdict?: unknown;
    readonly reason?: unknown;
    readonly backends?: unknown;
    readonly treatment?: unknown;
  };

  // 1. What goes

  for (const name of Reflect.ownKeys(globalThis)) {
    if (typeof name === 'string' && !kept.includes(name)) Reflect.deleteProperty(globalThis, name);
  }
  Reflect.deleteProperty(Math, 'random');
  // Node would call a function of this name, also one that Error inherits.
  defineProperty(Error, 'prepareStackTrace', { value: undefined });
  freeze(Error);
  defineProperty(globalThis, 'Error', { value: Error, writable: false, configurable: false });

  const shortened = (text: string): string => (text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text);

  /** What it says, and where. */
  const told = (error: unknown): InsideFailure => {
    try {
      const stack = error instanceof Error ? `${error.stack}` : '';
      const at = stack.indexOf(`${file}:`);
      const [, line = '0', column = '0'] = (at >= 0 && /^:(\d+):(\d+)/.exec(stack.slice(at + file.length))) || [];
      return [shortened(String(error)), Number(line), Number(column)];
    } catch {
      return ['it has thrown what cannot be told', 0, 0];
    }
  };

  // 2. Load

  let onFlow: ((flow: object, context: object) => unknown) | undefined;

  const load = (run: HookModule): string => {
    // The first time takes long.
    told(new Error('none'));
    try {
      const module = { exports: {} as { readonly default?: unknown } };
      run(module, module.exports, (name) => {
        if (name !== 'weft') throw new TypeError(`a hook imports from "weft" alone, not from ${stringify(name)}`);
        return weft;
      });
      const hook = module.exports.default as { readonly name?: unknown; readonly onFlow?: unknown } | undefined;
      if (typeof hook?.name !== 'string' || typeof hook.onFlow !== 'function')
        throw new TypeError('its default export is to be defineHook({ name, onFlow(flow, context) { … } })');
      const { name } = hook;
      onFlow = (flow, context) => (hook.onFlow as NonNullable<typeof onFlow>)(flow, context);
      return stringify(['loaded', shortened(name)] satisfies InsideLoadAnswer);
    } catch (error) {
      return stringify(['failed', told(error), 'invalid'] satisfies InsideLoadAnswer);
    }
  };

  // 3. Ask

  let values: readonly unknown[] = [];
  let read = '';
  const take = <V>(group: number): V => {
    const digit = group.toString(36);
    if (!read.includes(digit)) read += digit;
    return values[group] as V;
  };
  type Who = readonly [string | null, string | null, string | null];
  type Labels = readonly [object, object];
  type BackendValues = readonly [string, number, Who, Labels, number];
  const flow = freeze({
    get protocol() {
      return take<readonly [string, number]>(0)[0];
    },
    get ipVersion() {
      return take<readonly [string, number]>(0)[1];
    },
    source: freeze({
      get address() {
        return take(1);
      },
      get port() {
        return take(2);
      },
      get endpoint() {
        return take<Who>(3)[0] ?? undefined;
      },
      get namespace() {
        return take<Who>(3)[1] ?? undefined;
      },
      get network() {
        return take<Who>(3)[2] ?? undefined;
      },
      get labels() {
        return take<Labels>(4)[0];
      },
      get namespaceLabels() {
        return take<Labels>(4)[1];
      },
    }),
    destination: freeze({
      get address() {
        return take(5);
      },
      get port() {
        return take(6);
      },
      get endpoint() {
        return take<Who>(7)[0] ?? undefined;
      },
      get namespace() {
        return take<Who>(7)[1] ?? undefined;
      },
      get labels() {
        return take<Labels>(8)[0];
      },
      get namespaceLabels() {
        return take<Labels>(8)[1];
      },
    }),
    get service() {
      return take<string | null>(9) ?? undefined;
    },
    get backends() {
      return take<readonly BackendValues[]>(10).map(
        ([address, port, [endpoint, namespace], [labels, more], weight]) => ({
          ...{ address, port, endpoint: endpoint ?? undefined, namespace: namespace ?? undefined },
          ...{ labels, namespaceLabels: more, weight },
        }),
      );
    },
    get mark() {
      return take(11);
    },
  });
  const context = freeze({
    host,
    /** FNV-1a of what makes the connection, mixed so that each bit of it counts (murmur3). */
    random(): number {
      let hash = 0x811c9dc5;
      for (const character of stringify([take(0), take(1), take(2), take(5), take(6)]))
        hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
      hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
      return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
    },
  });

  /** A weight for each backend: those that it names have one. */
  const weightsOf = (chosen: unknown): readonly number[] => {
    const backends = take<readonly BackendValues[]>(10);
    const weights = backends.map(() => 0);
    for (const { address, port, weight } of chosen as readonly {
      address?: unknown;
      port?: unknown;
      weight?: unknown;
    }[]) {
      const at = backends.findIndex(([known, knownPort]) => known === address && knownPort === port);
      if (at < 0) throw new TypeError('balance(backends) takes those of flow.backends');
      if (typeof weight !== 'number' || !(weight >= 0 && weight <= mostWeight))
        throw new RangeError(`balance(backends): a weight is 0 to ${mostWeight}`);
      weights[at] = weight;
    }
    if (!weights.some((weight) => weight > 0)) throw new RangeError('balance(backends) has no backend with a weight');
    return weights;
  };

  const isWhole = (value: unknown, [least, most]: readonly [number, number]): boolean =>
    typeof value === 'number' && value % 1 === 0 && value >= least && value <= most;
  /** The number of that name, which is within its limits; undefined if it is missing. */
  const numberOf = (of: Readonly<Record<string, unknown>>, name: keyof TreatmentLimits): number | undefined => {
    const value = of[name];
    if (value === undefined) return undefined;
    const [least, most] = limits[name];
    if (!isWhole(value, [least, most])) throw new RangeError(`${name} is a whole number from ${least} to ${most}`);
    return value as number;
  };
  const fieldsOf = (value: unknown, what: string, names: readonly string[]): Readonly<Record<string, unknown>> => {
    if (typeof value !== 'object' || value === null) throw new TypeError(`${what} is { ${names.join(', ')} }`);
    for (const name of keys(value)) {
      if (!names.includes(name)) throw new TypeError(`${what} is { ${names.join(', ')} }, and has no ${name}`);
    }
    return value as Readonly<Record<string, unknown>>;
  };
  const treatmentOf = (set: unknown): readonly [InsideTreatment] | readonly [] => {
    if (set === undefined) return [];
    const fields = fieldsOf(set, 'what a connection gets', ['mark', 'dscp', 'rate']);
    const [mark = 0, dscp = -1] = [numberOf(fields, 'mark'), numberOf(fields, 'dscp')];
    if (fields['rate'] === undefined) return mark === 0 && dscp < 0 ? [] : [[mark, dscp, 0, 0, '']];
    const rate = fieldsOf(fields['rate'], 'rate', ['by', 'bitsPerSecond', 'packetsPerSecond']);
    const by = rate['by'];
    if (typeof by !== 'string' || by.length === 0 || by.length > MOST_TEXT)
      throw new TypeError(`rate.by is a text of 1 to ${MOST_TEXT} characters: all who have the same share the rate`);
    const [bits = 0, packets = 0] = [numberOf(rate, 'bitsPerSecond'), numberOf(rate, 'packetsPerSecond')];
    if (bits === 0 && packets === 0) throw new TypeError('rate has bitsPerSecond, packetsPerSecond, or both');
    return [[mark, dscp, round(bits / 1000), packets, by]];
  };

  const answer = (answered: InsideAnswer): string => stringify(answered);
  const ask = (question: string): string => {
    values = parse(question) as readonly unknown[];
    read = '';
    try {
      const said = (onFlow!(flow, context) ?? { verdict: 'allow' }) as Said;
      const { verdict, reason } = said;
      if (verdict === 'balance' || verdict === 'allow') {
        // Before it is told what was read: getters may read more of the flow.
        const weights = verdict === 'balance' ? stringify(weightsOf(said.backends)) : '';
        const treatment = treatmentOf(said.treatment);
        return answer([verdict, weights, read, ...treatment]);
      }
      if ((verdict === 'deny' || verdict === 'reject') && typeof reason === 'string')
        return answer([verdict, shortened(reason), read]);
      throw new TypeError('onFlow returns allow(), deny(reason), reject(reason), balance(backends) or nothing');
    } catch (error) {
      return answer(['failed', told(error), read]);
    }
  };

  return { load, ask };
}
