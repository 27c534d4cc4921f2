/**
 * What each other host speaks for: the workloads behind each VTEP, as far as they are known.
 *
 * A host that shares the store has exactly these workloads. So what it sends is checked against them (`foreign.ts`), and
 * floods go only to hosts with somebody who needs them (`flood.ts`). Routed packets do not say which network they come from,
 * so they are looked up by their address, over all networks.
 *
 * Its objects (`changes.ts`): each address that a VTEP may send from, the list of all of these, and for each network the
 * list of VTEPs with workloads in it. The last one changes only with the first and last workload of a VTEP, and with those
 * that are trusted or have further addresses, so the other ones come and go at the same cost however many there are.
 */
import { AddressSet } from '../flow/address-set.ts';
import { bytesId, bytesOf } from '../flow/key.ts';
import { formatIp, type Vni } from '../flow/types.ts';
import type { Changes } from './changes.ts';
import type { Workload } from './workload.ts';

/** The workloads behind one VTEP. */
interface Speaker {
  readonly vtep: Uint8Array;
  /** What they may send from, over all networks. */
  readonly sources: AddressSet;
  /** How many of them are trusted, by network. */
  readonly trusted: Map<Vni, number>;
}

/** The workloads of one VTEP in one network. */
interface Members {
  readonly vtep: Uint8Array;
  count: number;
  trusted: number;
  /** How many have each further address, by `bytesId`. */
  readonly allowed: Map<string, number>;
}

export class Workloads {
  readonly #changes: Changes;
  readonly #speakers = new Map<string, Speaker>();
  readonly #networks = new Map<Vni, Map<string, Members>>();

  constructor(changes: Changes) {
    this.#changes = changes;
  }

  add(workload: Workload): void {
    const { vni, vtep, trust } = workload;
    const id = bytesId(vtep);
    let speaker = this.#speakers.get(id);
    if (!speaker) this.#speakers.set(id, (speaker = { vtep, sources: new AddressSet(), trusted: new Map() }));
    for (const ip of sourceIds(workload)) {
      if (speaker.sources.add(ip)) this.#changes.added(sourcesObject(vtep), sourceObject(vtep, bytesOf(ip)));
    }
    if (trust) {
      count(speaker.trusted, vni, 1);
      this.#changes.added(sourcesObject(vtep));
    }
    let network = this.#networks.get(vni);
    if (!network) this.#networks.set(vni, (network = new Map()));
    let members = network.get(id);
    if (!members) network.set(id, (members = { vtep, count: 0, trusted: 0, allowed: new Map() }));
    members.count++;
    if (trust) members.trusted++;
    for (const ip of workload.allowedIds) count(members.allowed, ip, 1);
    if (members.count === 1 || isSpecial(workload)) this.#changes.added(membersObject(vni));
  }

  remove(workload: Workload): void {
    const { vni, vtep, trust } = workload;
    const id = bytesId(vtep);
    const speaker = this.#speakers.get(id);
    const members = this.#networks.get(vni)?.get(id);
    if (!speaker || !members) return;
    for (const ip of sourceIds(workload)) {
      if (speaker.sources.delete(ip)) this.#changes.changed(sourcesObject(vtep), sourceObject(vtep, bytesOf(ip)));
    }
    if (trust) {
      count(speaker.trusted, vni, -1);
      members.trusted--;
      // Any address may have been let through for it.
      this.#changes.changed(sourcesObject(vtep));
    }
    for (const ip of workload.allowedIds) count(members.allowed, ip, -1);
    members.count--;
    if (members.count === 0 || isSpecial(workload)) this.#changes.changed(membersObject(vni));
    if (members.count > 0) return;
    this.#networks.get(vni)!.delete(id);
    if (this.#networks.get(vni)!.size === 0) this.#networks.delete(vni);
    if (speaker.sources.isEmpty && speaker.trusted.size === 0) this.#speakers.delete(id);
  }

  /** The addresses that workloads behind a VTEP may send from, whatever their network. */
  sourcesOf(vtep: Uint8Array): AddressSet {
    return this.#speakers.get(bytesId(vtep))?.sources ?? nothing;
  }

  /** The networks in which a trusted workload is behind a VTEP. */
  trustedNetworksOf(vtep: Uint8Array): readonly Vni[] {
    return [...(this.#speakers.get(bytesId(vtep))?.trusted.keys() ?? [])];
  }

  /** True if a trusted workload of that network is behind a VTEP. */
  hasTrusted(vni: Vni, vtep: Uint8Array): boolean {
    return (this.#networks.get(vni)?.get(bytesId(vtep))?.trusted ?? 0) > 0;
  }

  /** True if a workload of that network is behind a VTEP. */
  isIn(vni: Vni, vtep: Uint8Array): boolean {
    return this.#networks.get(vni)?.has(bytesId(vtep)) ?? false;
  }

  /** True if a workload of that network may send from an address besides its own. */
  isAllowed(vni: Vni, ip: Uint8Array): boolean {
    const id = bytesId(ip);
    return [...(this.#networks.get(vni)?.values() ?? [])].some(({ allowed }) => allowed.has(id));
  }

  /** True if somebody behind a VTEP may answer for an address that no endpoint has: it is trusted, or allowed to. */
  mayCarry(vni: Vni, vtep: Uint8Array, ip: Uint8Array): boolean {
    const members = this.#networks.get(vni)?.get(bytesId(vtep));
    return members !== undefined && (members.trusted > 0 || members.allowed.has(bytesId(ip)));
  }
}

/** Routers do not forward what comes from its link-local address. */
function sourceIds(workload: Workload): string[] {
  return [...workload.addressIds, ...workload.allowedIds];
}

/** True if more than its own addresses can be behind it. */
function isSpecial(workload: Workload): boolean {
  return workload.trust || workload.allowedIds.length > 0;
}

function count<K>(counts: Map<K, number>, key: K, change: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + change;
  if (now > 0) counts.set(key, now);
  else counts.delete(key);
}

const nothing = new AddressSet();

/** Whether workloads behind a VTEP may send from an address. */
export function sourceObject(vtep: Uint8Array, ip: Uint8Array): string {
  return `source/${formatIp(vtep)}/${formatIp(ip)}`;
}

/** The list of these addresses, consulted when an address is not among them. */
export function sourcesObject(vtep: Uint8Array): string {
  return `sources/${formatIp(vtep)}`;
}

/** Which VTEPs have workloads in a network, and for whom of them more than their own addresses can be there. */
export function membersObject(vni: Vni): string {
  return `network/${vni}/vteps`;
}
