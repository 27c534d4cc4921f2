/**
 * The flow classes in the state directory, so that a start knows those of the days before. The file is replaced as a whole: there is the
 * former one, or the new one. One that is damaged, or of another version, is left aside as a whole: what it says of the rest is not
 * known.
 */
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { WeftError } from '../../error.ts';
import type { Place } from '../../flow/connection.ts';
import { formatIp, parseIp } from '../../flow/types.ts';
import {
  flowClassesHeader,
  flowClassLine,
  type FlowClassLine,
  type FlowClassRecord,
} from '../../model/flow-class-record.ts';
import type { FormerIdentity } from '../../cluster/policies/proposed-policies.ts';
import { nextTurn } from '../../turns.ts';
import { identityKey, type ClassEnd, type FlowClass } from './flow-class.ts';

/** Longer than what is ever written. */
const MOST_BYTES = 64 * 1024 * 1024;
/** How many lines are read or made in one turn of the event loop. */
const TURN_LINES = 128;

/** Empty if there is no file. @throws WeftError if it cannot be read as a whole */
export async function readClasses(path: string): Promise<FlowClass[]> {
  let text: string;
  try {
    if ((await stat(path)).size > MOST_BYTES) throw new WeftError('state', 'it is too long');
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const [header = '', ...lines] = text.split('\n');
  if (!flowClassesHeader.safeParse(parsed(header)).success) throw new WeftError('state', 'it is of another version');
  const identities: FormerIdentity[] = [];
  const classes: FlowClass[] = [];
  for (const [at, line] of lines.entries()) {
    if (at % TURN_LINES === TURN_LINES - 1) await nextTurn();
    const read = flowClassLine.safeParse(parsed(line));
    if (!read.success) throw new WeftError('state', `line ${at + 2} is damaged`);
    const { identity, class: one } = read.data;
    if (identity) identities.push(identity);
    else if (one) classes.push(classOf(one, identities));
    else if (read.data.end === classes.length && lines.slice(at + 1).join('') === '') return classes;
    else break;
  }
  throw new WeftError('state', 'its end is missing');
}

/** Puts these in the place of what the file has. */
export async function writeClasses(path: string, classes: Iterable<FlowClass>): Promise<void> {
  const fresh = `${path}.new`;
  const file = await open(fresh, 'w', 0o600);
  try {
    let lines = [JSON.stringify({ flowClasses: 1 })];
    for (const line of linesOf(classes)) {
      lines.push(JSON.stringify(line));
      if (lines.length < TURN_LINES) continue;
      await file.appendFile(`${lines.join('\n')}\n`);
      lines = [];
      await nextTurn();
    }
    await file.appendFile(`${lines.join('\n')}\n`);
    await file.datasync();
    await file.close();
    await rename(fresh, path);
  } catch (error) {
    await file.close().catch(() => {});
    await rm(fresh, { force: true }).catch(() => {});
    throw error;
  }
}

function* linesOf(classes: Iterable<FlowClass>): Generator<FlowClassLine> {
  const numbers = new Map<string, number>();
  let count = 0;
  for (const one of classes) {
    for (const { identity } of [one.from, one.to]) {
      if (!identity || numbers.has(identityKey(identity))) continue;
      numbers.set(identityKey(identity), numbers.size);
      const { namespace, labels, ports } = identity;
      yield { identity: { namespace, labels, ports: [...ports] } };
    }
    const numberOf = (identity: FormerIdentity): number => numbers.get(identityKey(identity))!;
    count++;
    yield { class: recordOf(one, numberOf) };
  }
  yield { end: count };
}

function recordOf(one: FlowClass, numberOf: (identity: FormerIdentity) => number): FlowClassRecord {
  const { from, to, places, meant, firstSeenMs, lastSeenMs, ...rest } = one;
  const end = ({ address, endpoint, identity, subject, isGone }: ClassEnd): FlowClassRecord['from'] => ({
    address: formatIp(address),
    ...(endpoint !== undefined && { endpoint }),
    ...(identity && { identity: numberOf(identity) }),
    ...(subject !== undefined && { subject }),
    ...(isGone && { isGone }),
  });
  return {
    ...rest,
    ...{ places: [...places], from: end(from), to: end(to), meant: formatIp(meant) },
    ...{ firstSeenMs: Math.round(firstSeenMs), lastSeenMs: Math.round(lastSeenMs) },
  };
}

function classOf(
  { from, to, places: [a, b], meant, ...rest }: FlowClassRecord,
  identities: FormerIdentity[],
): FlowClass {
  const end = ({ address, identity, ...more }: FlowClassRecord['from']): ClassEnd => {
    if (identity !== undefined && !identities[identity]) throw new WeftError('state', 'an identity is missing');
    return { ...more, address: parseIp(address), identity: identity === undefined ? undefined : identities[identity] };
  };
  return { ...rest, places: [a as Place, b as Place], from: end(from), to: end(to), meant: parseIp(meant) };
}

/** Undefined if it is no JSON. */
function parsed(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}
