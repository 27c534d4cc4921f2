/**
 * The daemon's configuration: defaults, then the file of `--config`, then the
 * options of the command line, which win.
 *
 *     # /etc/weft/weft.yaml
 *     host: a
 *     underlay: 192.0.2.1
 *     peers: [192.0.2.2, 192.0.2.3]
 *     flowLimit: 100000
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';
import { WeftError } from './error.ts';
import { parseDocuments } from './model/document.ts';
import { type Path, pathText, problemOf, valueText } from './model/problem.ts';
import { name, underlayAddress } from './model/value.ts';

export interface DaemonConfig {
  /** Name of this host. */
  readonly host: string;
  /** Own address on the underlay; without it the route to the first peer chooses, and without peers there is none. */
  readonly underlay?: string;
  /** Underlay addresses of the other hosts, all of one family. */
  readonly peers: readonly string[];
  /** Directory of the embedded store; absolute. */
  readonly state: string;
  readonly datapath: 'native' | 'reference';
  /** Cached flows. */
  readonly flowLimit: number;
  /** MAC addresses that are learned from one port, and from one VTEP. */
  readonly fdbQuota: number;
  readonly fdbAgeingMs: number;
  /** After which an unused cached flow is removed. */
  readonly flowIdleMs: number;
}

/** Of the command line, as they were typed. */
export interface Flags {
  /** Path of the file. */
  readonly config?: string;
  readonly host?: string;
  readonly underlay?: string;
  readonly peer?: readonly string[];
  readonly store?: string;
  readonly state?: string;
  readonly datapath?: string;
}

const count = (what: string, least: number, most: number) => {
  const accepted = `${what} is a whole number, ${least} to ${most}`;
  return z.int({ error: accepted }).min(least, accepted).max(most, accepted);
};
const DAY_MS = 86_400_000;

const schema = z.strictObject({
  host: name.optional(),
  underlay: underlayAddress.optional(),
  peers: z.array(underlayAddress).optional(),
  store: z
    .string()
    .superRefine((text, context) => {
      if (text === 'embedded') return;
      const message = text.startsWith('etcd://')
        ? `${valueText(text)} is not supported: this version has the embedded store only`
        : `${valueText(text)} is not accepted: accepted is embedded`;
      context.addIssue({ code: 'custom', message });
    })
    .optional(),
  state: z.string().min(1, 'it is the path of a directory').optional(),
  datapath: z.enum(['native', 'reference']).optional(),
  flowLimit: count('a limit of flows', 1, 10_000_000).optional(),
  fdbQuota: count('a quota of addresses', 1, 1_000_000).optional(),
  fdbAgeingMs: count('a time in milliseconds', 1000, DAY_MS).optional(),
  flowIdleMs: count('a time in milliseconds', 1000, DAY_MS).optional(),
});

/** Where a value came from, for messages: `--peer` or `weft.yaml:3:9: peers[1]`. */
type Locate = (path: Path) => string;
type Given = z.output<typeof schema>;

/** @throws WeftError `usage` for an option, `invalid` for the file: one line with the value and what is accepted. */
export function loadConfig(flags: Flags): DaemonConfig {
  const file = flags.config === undefined ? { given: {}, locate: pathText } : readFile(flags.config);
  const options = readFlags(flags);
  const given: Given = { ...file.given, ...options };
  const locate: Locate = (path) => {
    const field = path[0] as keyof Given;
    return options[field] === undefined ? file.locate(path) : optionOf(field);
  };
  refusePeers(given, locate);
  const { host = ownName(), peers = [], state = '/var/lib/weft', underlay } = given;
  return {
    host,
    ...(underlay !== undefined && { underlay }),
    peers,
    state: resolve(state),
    datapath: given.datapath ?? 'native',
    flowLimit: given.flowLimit ?? 200_000,
    fdbQuota: given.fdbQuota ?? 2048,
    fdbAgeingMs: given.fdbAgeingMs ?? 300_000,
    flowIdleMs: given.flowIdleMs ?? 10_000,
  };
}

function readFile(path: string): { readonly given: Given; readonly locate: Locate } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new WeftError('invalid', `--config ${path}: ${(error as Error).message}`, { cause: error });
  }
  const [document, second] = parseDocuments(text, path);
  if (second) throw new WeftError('invalid', `${second.position([], false)}: a configuration is one document`);
  if (!document) return { given: {}, locate: pathText };
  const { value, position } = document;
  const result = schema.safeParse(value);
  if (!result.success) {
    const problem = problemOf(schema, value, result.error);
    throw new WeftError('invalid', `${position(problem.path, problem.isKey)}: ${problem.text}`);
  }
  return { given: result.data, locate: (at) => `${position(at, false)}: ${pathText(at)}` };
}

function readFlags({ config: _, peer, ...others }: Flags): Given {
  const given = JSON.parse(JSON.stringify({ ...others, peers: peer })) as Record<string, unknown>;
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const { path, text } = problemOf(schema, given, result.error);
  throw new WeftError('usage', `${optionOf(path[0] as keyof Given)}${text.slice(pathText(path).length)}`);
}

function optionOf(field: keyof Given): string {
  return field === 'peers' ? '--peer' : `--${field}`;
}

function refusePeers({ underlay, peers = [] }: Given, locate: Locate): void {
  const own = underlay ?? peers[0];
  for (const [index, peer] of peers.entries()) {
    const refuse = (why: string): never => {
      throw new WeftError('invalid', `${locate(['peers', index])}: ${peer} is not accepted: ${why}`);
    };
    if (peer === underlay) refuse('it is the underlay address of this host itself');
    if (peers.indexOf(peer) < index) refuse('it is given twice');
    if (own !== undefined && peer.includes(':') !== own.includes(':')) {
      refuse(`it is not of the family of ${underlay === undefined ? 'the peer' : 'the underlay'} ${own}`);
    }
  }
}

/** The host name as it can be a name of weft. */
function ownName(): string {
  const label = hostname().split('.', 1)[0]!.toLowerCase();
  const valid = label
    .replaceAll(/[^a-z0-9-]/g, '-')
    .slice(0, 63)
    .replaceAll(/^-+|-+$/g, '');
  return valid === '' ? 'localhost' : valid;
}
