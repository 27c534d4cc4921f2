/**
 * Checks that the addon was built with the same tables as this program. Numbers, offsets and names
 * cross between C++ and TypeScript without any description, so every difference is an error of the
 * build, and is reported before a single frame moves.
 */
import { ACTION_BYTES, opcodes } from '../flow/action.ts';
import {
  DATAGRAMS_PER_PORT,
  FRAGMENT_TIMEOUT_MS,
  HEAD_BYTES,
  MASK_CAP,
  PARKED_FRAGMENTS,
  PARKED_PER_FLOW,
  PENDING_BALANCED_PER_PORT,
  PENDING_PER_PORT,
  UPCALL_BATCH,
  WAITING_BYTES_PER_PORT,
  WAITING_PER_DATAGRAM,
} from '../flow/bounds.ts';
import { BALANCE_OWNERS, BALANCED_BACKEND_BYTES } from '../flow/balancing.ts';
import {
  CONNECTION_BYTES,
  CONNECTION_HALF,
  CONNECTION_HALF_FLOW,
  CONNECTION_HALF_PORT,
  CONNECTION_HALF_TREATMENT,
  CONNECTION_REPLY_HALF,
  CONNECTION_OPENING_BYTES,
  CONNECTION_OPENING_PORT,
  CONNECTION_OPENING_TREATMENT,
  CONNECTION_ORIGINAL,
  CONNECTION_OWNER,
  CONNECTION_PIN,
  CONNECTION_PLACES,
  INTERNAL,
  CONNECTION_TRANSLATED,
  CONNECTION_TABLE,
  CONNECTION_VIA,
} from '../flow/connection.ts';
import { CONNECTION_OWNERS, FIRST_FREE_OWNER } from '../flow/connection-store.ts';
import { TREATMENT_BYTES } from '../flow/treatment.ts';
import { fieldList, KEY_BYTES } from '../flow/fields.ts';
import { ENTROPY_FIRST_PORT, ENTROPY_PORTS } from '../flow/hash.ts';
import { dropReasons } from '../flow/reason.ts';
import { refusalNumbers } from '../flow/refusal.ts';
import { PROBE_VNI, PROBE_VNIS } from '../wire/probe.ts';

export interface AddonLayout {
  /** Offset and size of each field in the key. */
  readonly fields: Readonly<Record<string, readonly [number, number]>>;
  readonly opcodes: Readonly<Record<string, number>>;
  /** Answers to refused frames, and drop reasons, by number. */
  readonly refusals: readonly string[];
  readonly reasons: readonly string[];
  readonly numbers: Readonly<Record<string, number>>;
}

/** The layout of this program. */
export const ownLayout: AddonLayout = {
  fields: Object.fromEntries(fieldList.map(({ name, offset, size }) => [name, [offset, size]])),
  opcodes,
  refusals: Object.keys(refusalNumbers),
  reasons: dropReasons.map(([name]) => name),
  numbers: {
    INTERNAL,
    PROBE_VNI,
    PROBE_VNIS,
    KEY_BYTES,
    ACTION_BYTES,
    PENDING_BALANCED_PER_PORT,
    PENDING_PER_PORT,
    PARKED_PER_FLOW,
    PARKED_FRAGMENTS,
    DATAGRAMS_PER_PORT,
    WAITING_PER_DATAGRAM,
    WAITING_BYTES_PER_PORT,
    FRAGMENT_TIMEOUT_MS,
    MASK_CAP,
    HEAD_BYTES,
    UPCALL_BATCH,
    ENTROPY_PORTS,
    ENTROPY_FIRST_PORT,
    CONNECTION_BYTES,
    CONNECTION_OPENING_BYTES,
    CONNECTION_OWNERS,
    FIRST_FREE_OWNER,
    CONNECTION_PLACES,
    CONNECTION_OWNER,
    CONNECTION_ORIGINAL,
    CONNECTION_TRANSLATED,
    CONNECTION_PIN,
    CONNECTION_TABLE,
    BALANCED_BACKEND_BYTES,
    BALANCE_OWNERS,
    CONNECTION_VIA,
    CONNECTION_HALF,
    CONNECTION_REPLY_HALF,
    CONNECTION_HALF_FLOW,
    CONNECTION_HALF_PORT,
    CONNECTION_HALF_TREATMENT,
    CONNECTION_OPENING_PORT,
    CONNECTION_OPENING_TREATMENT,
    TREATMENT_BYTES,
  },
};

/** One sentence for each difference between the addon and this program. */
export function layoutDifferences(addon: AddonLayout, own: AddonLayout): string[] {
  return [
    ...differences('field', addon.fields, own.fields),
    ...differences('opcode', addon.opcodes, own.opcodes),
    ...differences('answer to a refused frame', byNumber(addon.refusals), byNumber(own.refusals)),
    ...differences('drop reason', byNumber(addon.reasons), byNumber(own.reasons)),
    ...differences('', addon.numbers, own.numbers),
  ];
}

function differences(
  what: string,
  addon: Readonly<Record<string, unknown>>,
  own: Readonly<Record<string, unknown>>,
): string[] {
  const names = new Set([...Object.keys(own), ...Object.keys(addon)]);
  const text = (value: unknown) =>
    value === undefined ? 'missing' : Array.isArray(value) ? value.join('+') : JSON.stringify(value);
  return [...names].flatMap((name) => {
    const [theirs, ours] = [text(addon[name]), text(own[name])];
    return theirs === ours ? [] : [`${what ? `${what} ` : ''}${name} is ${theirs} there and ${ours} here`];
  });
}

function byNumber(names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.entries());
}
