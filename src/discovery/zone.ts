/**
 * What weft's names mean to a client. It answers from memory alone, so a question costs the same however many names exist.
 *
 *   SERVICE.NAMESPACE.svc.cluster.local       VIPs; addresses of a headless service; CNAME        (`service-names.ts`)
 *   _PORT._PROTO.SERVICE.NAMESPACE.svc.…      SRV, for ports that have a name
 *   HOSTNAME.SERVICE.NAMESPACE.svc.…          one backend of a headless service
 *   NAME.NETWORK.weft                         an endpoint in the client's namespace               (`endpoint-names.ts`)
 *   NAME.NAMESPACE.NETWORK.weft               an endpoint in any namespace
 *   …in-addr.arpa, …ip6.arpa                  VIPs, and addresses of the client's own network     (`reverse.ts`)
 *
 * Services have the form of Kubernetes' DNS specification, version 1.1.0. A VIP is reached from everywhere. All other
 * addresses are answered only if the client's network reaches them: its own, and those that its routes lead to. To a client
 * that reaches none of an owner's addresses, the name does not exist.
 *
 * Existing: a name exists if it has records, or a name below it does (RFC 8020). One that exists without records of the
 * type that was asked for is no error, and has no answer (NODATA). Both kinds of negative answers name the zone (RFC 2308).
 */
import type { Vni } from '../flow/types.ts';
import { bytesId } from '../flow/key.ts';
import { RouteTable } from '../table/routes.ts';
import { drawn, ofType } from './chosen-records.ts';
import { count, EndpointNames } from './endpoint-names.ts';
import type { ZoneChange, ZoneNetwork } from './records.ts';
import {
  addressRecords,
  NOTHING,
  NO_NAME,
  type NameFound,
  type OwnRecord,
  type Reachable,
  type ResourceRecord,
} from './resource-record.ts';
import { isPrivate, isWithin, reverseName } from './reverse.ts';
import { ServiceNames } from './service-names.ts';

/** Who asks. */
export interface ZoneClient {
  readonly network: string;
  readonly namespace: string;
}

export interface ZoneAnswer {
  /** SERVFAIL: aliases lead in a circle, or through too many names. */
  readonly rcode: 'NOERROR' | 'NXDOMAIN' | 'SERVFAIL';
  readonly answers: readonly ResourceRecord[];
  /** Found as they are read, once. */
  readonly additionals: Iterable<ResourceRecord>;
  /** A name that is not weft's, which the last record of the answers leads to. */
  readonly leadsTo?: string;
  /** The name that does not exist, or has no such records: that of the question, or one that aliases lead to. */
  readonly missing?: string;
}

/** How many addresses an answer has. */
export const MOST_RECORDS = 100;
/** How long answers may be kept, in seconds, positive and negative ones. */
export const TTL_S = 5;
/** How many names an alias may lead through. */
const MOST_ALIASES = 8;

const CLUSTER = ['cluster', 'local'];
const WEFT = ['weft'];
/** Of Kubernetes' specification of names. */
const VERSION = '1.1.0';

export interface ZoneNetworkView extends ZoneNetwork {
  readonly table: RouteTable;
}

export class Zone {
  readonly #networks = new Map<string, ZoneNetworkView>();
  readonly #names = new Map<Vni, string>();
  /** By address: how many networks have that gateway. */
  readonly #gateways = new Map<string, number>();
  readonly #endpoints = new EndpointNames();
  readonly #services = new ServiceNames();
  readonly #randomBelow: (limit: number) => number;
  /** How often it has changed. */
  #serial = 1;

  /** @param randomBelow returns a random whole number below its argument, by which answers are shuffled */
  constructor(randomBelow: (limit: number) => number) {
    this.#randomBelow = randomBelow;
  }

  apply(change: ZoneChange): void {
    this.#serial = (this.#serial + 1) >>> 0;
    switch (change.kind) {
      case 'network':
        this.#services.networksChanged();
        return this.#setNetwork(change.name, change.value);
      case 'endpoint':
        return this.#endpoints.set(change.id, change.value);
      case 'service':
        return this.#services.set(change.id, change.value);
      default:
        return change satisfies never;
    }
  }

  network(name: string): ZoneNetwork | undefined {
    return this.#networks.get(name);
  }

  /** True if an address is a gateway's, where this very server answers. */
  isGateway(ip: Uint8Array): boolean {
    return this.#gateways.has(bytesId(ip));
  }

  /**
   * @param name in lower case, without a dot at its end @param type such as `A`, or `ANY`
   * @returns undefined if the name is not weft's
   */
  answer(name: string, type: string, client: ZoneClient): ZoneAnswer | undefined {
    const answers: ResourceRecord[] = [];
    const aliases = new Set<string>();
    let next = name;
    for (;;) {
      const found = this.#find(next, client);
      if (found === undefined) return aliases.size === 0 ? undefined : { ...NO_ERROR, answers, leadsTo: next };
      if (found === 'none') return { ...NO_ERROR, rcode: 'NXDOMAIN', answers, missing: next };
      const [alias] = found.records;
      if (alias?.type === 'CNAME' && type !== 'CNAME' && type !== 'ANY') {
        if (aliases.has(next) || aliases.size === MOST_ALIASES) return { ...NO_ERROR, rcode: 'SERVFAIL', answers };
        aliases.add(next);
        answers.push({ name: next, ...alias });
        next = alias.data as string;
        continue;
      }
      const wanted = ofType(found.records, type);
      if (wanted.length === 0) return { ...NO_ERROR, answers, missing: next };
      const shown = this.#shuffled(wanted).map((record) => ({ name: next, ...record }));
      return { ...NO_ERROR, answers: [...answers, ...shown], additionals: this.#additionals(shown, client) };
    }
  }

  /** The record that negative answers for a name of weft's have. */
  soa(name: string): ResourceRecord {
    const zone = zoneOf(name.split('.'));
    const data = {
      mname: 'ns.dns.cluster.local',
      rname: 'hostmaster.cluster.local',
      serial: this.#serial,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: TTL_S,
    };
    return { name: zone, type: 'SOA', data };
  }

  #find(name: string, client: ZoneClient): NameFound | undefined {
    const labels = name.split('.');
    if (endsWith(labels, CLUSTER)) return this.#inCluster(labels.slice(0, -CLUSTER.length), client);
    if (endsWith(labels, WEFT)) return this.#inWeft(labels.slice(0, -WEFT.length), client);
    return this.#reverse(labels, client);
  }

  #inCluster(labels: readonly string[], client: ZoneClient): NameFound {
    if (labels.length === 0) return { records: [this.soa(CLUSTER.join('.'))] };
    if (labels.at(-1) === 'svc')
      return this.#services.find(labels.slice(0, -1), client.network, this.#reachFrom(client));
    const gateways = this.#networks.get(client.network)?.gateways ?? [];
    const known: Record<string, NameFound> = {
      'dns-version': { records: [{ type: 'TXT', data: [VERSION] }] },
      dns: NOTHING,
      'ns.dns': { records: addressRecords(gateways) },
    };
    const own = labels.join('.');
    return Object.hasOwn(known, own) ? known[own]! : NO_NAME;
  }

  #inWeft(labels: readonly string[], client: ZoneClient): NameFound {
    const network = labels.at(-1);
    if (network === undefined) return { records: [this.soa(WEFT.join('.'))] };
    if (!this.#networks.has(network)) return NO_NAME;
    const below = labels.slice(0, -1);
    return this.#endpoints.find(network, below, client.namespace, this.#reachFrom(client));
  }

  #reverse(labels: readonly string[], client: ZoneClient): NameFound | undefined {
    const asked = reverseName(labels);
    if (asked === undefined) return undefined;
    if (asked === 'invalid') return NO_NAME;
    const own = this.#networks.get(client.network);
    const isOwn = own?.subnets.some((subnet) => isWithin(asked.prefix, subnet)) ?? false;
    const { ip } = asked.prefix;
    const ofServices = asked.isWhole ? this.#services.namesOfVip(ip) : [];
    const ofOwn =
      asked.isWhole && own && isOwn
        ? [...this.#services.namesOfBackend(own.vni, ip), ...this.#endpoints.namesOf(own.name, ip)]
        : [];
    const targets = [...ofServices, ...ofOwn];
    if (targets.length > 0) return { records: targets.map((data) => ({ type: 'PTR', data })) };
    if (!isOwn && !isPrivate(asked.prefix)) return undefined;
    // Names above those of addresses exist, whatever is below them.
    return asked.isWhole ? NO_NAME : NOTHING;
  }

  #reachFrom(client: ZoneClient): Reachable {
    const own = this.#networks.get(client.network);
    return (ip, of) => {
      if (!own) return false;
      const name = typeof of === 'number' ? this.#names.get(of) : of;
      if (name === own.name) return true;
      const { route } = own.table.lookup(ip);
      if (of === undefined) return route?.kind === 'outside' || (route === undefined && own.outside);
      return route?.kind === 'network' && route.network === name;
    };
  }

  #setNetwork(name: string, value: ZoneNetwork | undefined): void {
    const before = this.#networks.get(name);
    if (before && this.#names.get(before.vni) === name) this.#names.delete(before.vni);
    for (const ip of before?.gateways ?? []) count(this.#gateways, bytesId(ip), -1);
    this.#networks.delete(name);
    if (!value) return;
    const { vni, subnets, routes, gateways } = value;
    for (const ip of gateways) count(this.#gateways, bytesId(ip), 1);
    const connected = subnets.map((prefix) => ({ prefix, kind: 'network', network: name }) as const);
    this.#networks.set(name, { ...value, table: new RouteTable(vni, [...connected, ...routes]) });
    this.#names.set(vni, name);
  }

  /** The addresses of the targets of SRV records. */
  *#additionals(records: readonly ResourceRecord[], client: ZoneClient): Iterable<ResourceRecord> {
    const targets = new Set(
      records.flatMap((one) => (one.type === 'SRV' ? [(one.data as { target: string }).target] : [])),
    );
    for (const target of targets) {
      const found = this.#find(target, client);
      if (found === undefined || found === 'none') continue;
      for (const record of found.records) if (isAddress(record)) yield { name: target, ...record };
    }
  }

  #shuffled(records: readonly OwnRecord[]): OwnRecord[] {
    // A set of records of one type stays together.
    return drawn(records, MOST_RECORDS, this.#randomBelow).toSorted((a, b) =>
      a.type < b.type ? -1 : a.type > b.type ? 1 : 0,
    );
  }
}

const NO_ERROR = { rcode: 'NOERROR', answers: [], additionals: [] } as const;

function isAddress({ type }: OwnRecord): boolean {
  return type === 'A' || type === 'AAAA';
}

function endsWith(labels: readonly string[], suffix: readonly string[]): boolean {
  return labels.length >= suffix.length && suffix.every((label, i) => labels.at(i - suffix.length) === label);
}

/** The zone in which weft answers for a name. */
function zoneOf(labels: readonly string[]): string {
  if (endsWith(labels, CLUSTER)) return CLUSTER.join('.');
  if (endsWith(labels, WEFT)) return WEFT.join('.');
  const reverse = reverseName(labels);
  return reverse === 'invalid' || reverse === undefined ? labels.slice(-2).join('.') : reverse.zone;
}
