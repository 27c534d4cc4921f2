/**
 * How a host comes to be one of a shared store: it registers itself, in one transaction.
 *
 *   hosts/NAME                      its Host resource, with its id, the bits of its MAC, and since when
 *   host-claims/id/ID               the host that has this id,
 *   host-claims/underlay/ADDRESS      this underlay address,
 *   host-claims/mac/BITS              and these bits
 *   live/NAME                       the daemon that runs, under a lease
 *   unhealthy/NAME                  which of its backends are unhealthy, under the same lease (`unhealthy-backends.ts`)
 *
 * So two hosts never have one name, id, address or MAC: the second one is refused, and told who has it and how to mend that.
 * Bits of a MAC that are taken are exchanged for others, which the host keeps.
 *
 * A daemon that starts again finds the record of the one before. It is no clash if that process is gone, which can be seen
 * on one machine, or if it hands over its state directory. After a reboot it cannot be seen, and the record goes with its lease: until then, the host waits with what it
 * knows. If the record stays for longer, another machine renews it, with a copy of this host's state directory.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../../error.ts';
import { WEFT_V1 } from '../../model/kinds/kind.ts';
import type { HostResource } from '../../model/kinds/host.ts';
import {
  hostClaim,
  hostRegistration,
  type HostRegistration,
  type LiveRecord,
  type ProcessIdentity,
} from '../../model/records.ts';
import type { Entry, Put, Store } from '../../store/store.ts';
import { LIVE } from '../keys.ts';
import { liveRecordOf } from './live-hosts.ts';

export const UNHEALTHY = 'unhealthy/';

const CLAIMS = 'host-claims/';
/** How often another choice of bits is tried. */
const MAC_ATTEMPTS = 100;
/** How often it is tried while others register at the same time. */
const ATTEMPTS = 10;

export interface RegistrationEnvironment {
  readonly store: Store;
  /** The name of this host. */
  readonly host: string;
  /** Hexadecimal, as all that follows. */
  readonly id: string;
  /** The bits of its MAC, by default; `keepMac` is called with others if they are taken. */
  readonly mac: () => string;
  readonly keepMac: (mac: string) => Promise<void>;
  readonly randomMac: () => string;
  /** RFC 3339. */
  readonly now: () => string;
  /** This daemon. */
  readonly process: ProcessIdentity;
  /** Undefined if it cannot be seen from here. */
  readonly isRunning: (process: ProcessIdentity) => boolean | undefined;
  /** Where the state directory is, for messages. */
  readonly state: string;
}

/** A claim, as it was read. */
interface Claim {
  readonly key: string;
  readonly entry: Entry | undefined;
  /** The other host that has it, and its record. A claim of a host that does not exist any more does not count. */
  readonly holder: { readonly name: string; readonly record: Entry } | undefined;
}

/** What is read before it is decided. */
interface Read {
  readonly own: Entry | undefined;
  readonly id: Claim;
  readonly underlay: Claim;
  readonly mac: Claim;
  readonly live: Entry | undefined;
}

/** The record of a daemon that may still run elsewhere is there, and goes with its lease unless it does. */
export class StillThere extends WeftError {}

/** What two hosts would share. Trying again does not help. */
export class HostClash extends WeftError {}

export class Registration {
  readonly #environment: RegistrationEnvironment;

  constructor(environment: RegistrationEnvironment) {
    this.#environment = environment;
  }

  /**
   * Registers this host, or makes sure that it is.
   * @param live written with `lease` @param mayWait false if nobody else's record can be there any more
   * @throws HostClash; StillThere; WeftError of the store
   */
  async register(
    underlay: string,
    live: LiveRecord,
    lease: string,
    { mayWait }: { readonly mayWait: boolean },
  ): Promise<void> {
    const { store, randomMac, keepMac } = this.#environment;
    let mac = this.#environment.mac();
    for (let attempt = 1; ; attempt++) {
      const read = await this.#read(underlay, mac);
      this.#refuse(read, underlay, mayWait);
      if (read.mac.holder && attempt < MAC_ATTEMPTS) {
        mac = randomMac();
        continue;
      }
      if (mac !== this.#environment.mac()) await keepMac(mac);
      try {
        await store.transact(this.#transaction(read, { underlay, mac, live, lease }));
        return;
      } catch (error) {
        if (!(error instanceof WeftError) || error.code !== 'conflict' || attempt >= ATTEMPTS) throw error;
      }
    }
  }

  async #read(underlay: string, mac: string): Promise<Read> {
    const { store, host, id } = this.#environment;
    const [own, live] = await Promise.all([store.get(`hosts/${host}`), store.get(LIVE + host)]);
    const [ofId, ofUnderlay, ofMac] = await Promise.all([
      this.#claim(idKey(id)),
      this.#claim(underlayKey(underlay)),
      this.#claim(macKey(mac)),
    ]);
    return { own, id: ofId, underlay: ofUnderlay, mac: ofMac, live };
  }

  async #claim(key: string): Promise<Claim> {
    const { store, host } = this.#environment;
    const entry = await store.get(key);
    const name = hostClaim.safeParse(entry?.value).data?.host;
    const record = name === undefined || name === host ? undefined : await store.get(`hosts/${name}`);
    return { key, entry, holder: record && { name: name!, record } };
  }

  #refuse({ own, id: ofId, underlay: ofUnderlay, live }: Read, underlay: string, mayWait: boolean): void {
    const { host, id, process, isRunning, state } = this.#environment;
    const known = registrationOf(own);
    const running = liveRecordOf(live);
    if (own && !known) {
      throw new HostClash(
        'conflict',
        `host "${host}" was applied by hand, for a host without weft: \`weft delete host ${host}\` on another host, or choose another name with --host`,
      );
    }
    if (known && known.id !== id) {
      const isLive = running ? `runs since ${running.startedAt}` : 'does not run now';
      throw new HostClash(
        'conflict',
        `the name "${host}" belongs to another host (${whoText(own)}), which ${isLive}: choose another name with --host; if that was this host before it was installed again, \`weft delete host ${host}\` on another host first`,
      );
    }
    if (ofId.holder) {
      const { name, record } = ofId.holder;
      throw new HostClash(
        'conflict',
        `this host has the id of host "${name}" (${whoText(record)}): the state directory ${state} is a copy of that host's, so start this one with an empty directory; if it is that host with another name, \`weft delete host ${name}\` on another host first, or, if there is none, \`weft up --host ${name}\` once more and \`weft down --purge\`, which removes its endpoints`,
      );
    }
    if (ofUnderlay.holder) {
      const { name, record } = ofUnderlay.holder;
      throw new HostClash(
        'conflict',
        `underlay ${underlay} belongs to host "${name}" (${whoText(record)}): give this host another address with --underlay; if host "${name}" does not exist any more, \`weft delete host ${name}\` on another host first`,
      );
    }
    if (!running || !isAnother(running, process, isRunning)) return;
    const isThere = isRunning(running.process);
    const other = `host "${host}" (${whoText(own)}) runs already, since ${running.startedAt}`;
    if (isThere === undefined && mayWait) {
      throw new StillThere('conflict', `${other}: waiting whether that was this host before its reboot`);
    }
    const where = isThere ? `as process ${running.process.pid} of this machine` : 'on another machine';
    throw new HostClash(
      'conflict',
      `${other}, ${where}: the state directory ${state} is a copy of that host's, so start this one with an empty directory and another name`,
    );
  }

  #transaction(
    read: Read,
    { underlay, mac, live, lease }: { underlay: string; mac: string; live: LiveRecord; lease: string },
  ) {
    const { host, id, now } = this.#environment;
    const { metadata, spec } = resourceIn(read.own?.value);
    const before = claimsIn(read.own?.value).underlay;
    const known = registrationOf(read.own);
    const resource: HostResource = {
      apiVersion: WEFT_V1,
      kind: 'Host',
      metadata: metadata ?? { name: host, labels: {} },
      spec: { ...spec, underlay },
    };
    const registration: HostRegistration = { host, id, mac, since: known?.since ?? now() };
    const isSame = known?.mac === mac && before === underlay && metadata !== undefined;
    const claims = [read.id, read.underlay, read.mac];
    const put: Put[] = [
      ...(isSame ? [] : [{ key: `hosts/${host}`, value: { resource, ...registration } }]),
      ...claims.flatMap(({ key, entry }) => (isOf(host, entry) ? [] : [{ key, value: { host } }])),
      { key: LIVE + host, value: live, lease },
    ];
    const expect = [
      { key: `hosts/${host}`, revision: read.own?.revision ?? 0 },
      ...claims.map(({ key, entry }) => ({ key, revision: entry?.revision ?? 0 })),
      { key: LIVE + host, revision: read.live?.revision ?? 0 },
    ];
    // What it had before is free for others.
    const given = [
      ...(before !== undefined && before !== underlay ? [underlayKey(before)] : []),
      ...(known && known.mac !== mac ? [macKey(known.mac)] : []),
    ];
    return { expect, put, delete: given };
  }
}

/**
 * False if a record with the name of this host is that of this daemon, of one that has ended, or of the one that it takes over
 * from: nobody else uses the same state directory.
 */
export function isAnother(
  { process }: LiveRecord,
  own: ProcessIdentity,
  isRunning: RegistrationEnvironment['isRunning'],
): boolean {
  // The usual case, and often asked: nothing has to be looked up.
  if (isDeepStrictEqual(process, own)) return false;
  const isThere = isRunning(process);
  return isThere === undefined || (isThere && process.stateDirectory !== own.stateDirectory);
}

/** What a host has claimed; without what is not known. */
export interface HostClaims {
  readonly id?: string;
  readonly mac?: string;
  readonly underlay?: string;
}

/** What the record of a host says that it has claimed, as far as that can be read. */
export function claimsIn(record: unknown): HostClaims {
  const { id, mac } = Object(record) as Readonly<Record<string, unknown>>;
  const { underlay } = resourceIn(record).spec ?? {};
  const texts = Object.entries({ id, mac, underlay }).filter(([, value]) => typeof value === 'string');
  return Object.fromEntries(texts) as HostClaims;
}

/** What the record of a host has of its resource, without what is no such thing: others have written it, too. */
function resourceIn(record: unknown): Partial<Pick<HostResource, 'metadata' | 'spec'>> {
  const { resource } = Object(record) as { readonly resource?: unknown };
  const { metadata, spec } = Object(resource) as Readonly<Record<string, unknown>>;
  const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
  return Object.fromEntries(Object.entries({ metadata, spec }).filter(([, value]) => isObject(value)));
}

/** The keys by which nobody else has the id, the MAC and the address of a registered host. */
export function claimKeys({ id, mac, underlay }: HostClaims): string[] {
  return [
    ...(id === undefined ? [] : [idKey(id)]),
    ...(underlay === undefined ? [] : [underlayKey(underlay)]),
    ...(mac === undefined ? [] : [macKey(mac)]),
  ];
}

/** The keys that go with the lease of a registered host. */
export function leasedKeys(name: string): string[] {
  return [LIVE + name, UNHEALTHY + name];
}

function idKey(id: string): string {
  return `${CLAIMS}id/${id}`;
}

function underlayKey(address: string): string {
  return `${CLAIMS}underlay/${address}`;
}

function macKey(mac: string): string {
  return `${CLAIMS}mac/${mac}`;
}

function isOf(host: string, claim: Entry | undefined): boolean {
  return hostClaim.safeParse(claim?.value).data?.host === host;
}

function registrationOf(entry: Entry | undefined): HostRegistration | undefined {
  return hostRegistration.safeParse(entry?.value).data;
}

/** `id 0123abcd, underlay 192.0.2.1, registered since …`: the beginning of an id is enough for people. */
function whoText(entry: Entry | undefined): string {
  const { underlay = 'unknown' } = claimsIn(entry?.value);
  const registration = registrationOf(entry);
  return [
    ...(registration ? [`id ${registration.id.slice(0, 8)}`] : []),
    `underlay ${underlay}`,
    ...(registration ? [`registered since ${registration.since}`] : []),
  ].join(', ');
}
