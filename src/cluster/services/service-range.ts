/**
 * Where services get their addresses: at most one subnet of each family, for the whole cluster. Whoever stores the first service
 * decides, and the record says so from then on (`allotment/services`). A host that is configured otherwise stores no services.
 * Nobody does while the record is one that no host would have written, because it is not readable or takes what networks have;
 * what was in force stays so until this host starts again.
 *
 * No network may overlap it. A change that stores the record also writes `allotment/networks` anew, on which every new network is
 * planned. So of a network and a first service that are created at once, one is planned again, and sees the other. If both are there all the same, because another program wrote one of them, the addresses are the
 * network's, except those that services have already, and no further service gets one.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../../error.ts';
import { overlaps, parseSubnet, type Subnet } from '../../model/address.ts';
import { familyOf, type Family } from '../../model/kinds/service.ts';
import { serviceRangeRecord } from '../../model/records.ts';
import type { ClashReport } from '../../model/report.ts';
import { validate } from '../../model/validate.ts';
import type { Change, Put } from '../../store/store.ts';
import type { Draft } from '../reconciler.ts';
import type { Register } from '../register.ts';
import type { NetworksBeside } from './networks-beside.ts';

const KEY = 'allotment/services';

export const DEFAULT_SERVICE_CIDRS: readonly string[] = ['10.96.0.0/16', 'fd77:6566:7460::/112'];

export interface ServiceRangeEnvironment {
  /** What this host is configured with; undefined if it takes what the cluster has. */
  readonly configured: readonly string[] | undefined;
  readonly networks: NetworksBeside;
}

export class ServiceRange implements Register {
  readonly prefix = KEY;
  readonly #environment: ServiceRangeEnvironment;
  #stored: readonly string[] | undefined;
  #revision = 0;
  /** Why the record is not accepted; undefined if it is, or if there is none. */
  #wrong: string | undefined;
  /** What it was compared with last, and what was found. */
  #compared:
    | { readonly networks: object; readonly cidrs: readonly string[]; readonly found: ClashReport[] }
    | undefined;

  /** `cidrs`, when they were parsed last. */
  #parsed: { readonly cidrs: readonly string[]; readonly subnets: readonly Subnet[] } | undefined;

  constructor(environment: ServiceRangeEnvironment) {
    this.#environment = environment;
  }

  /** What holds, or will: as text, in the order in which services prefer the families. */
  get cidrs(): readonly string[] {
    return this.#stored ?? this.#environment.configured ?? DEFAULT_SERVICE_CIDRS;
  }

  /** Nothing until a service has an address, or this host is configured: what is there until then belongs to nobody. */
  get decided(): readonly string[] {
    return this.#stored ?? this.#environment.configured ?? [];
  }

  /** Where addresses that no service has are refused: nowhere as long as a network keeps services from getting any. */
  inForce(): readonly string[] {
    return this.#overlaps().length > 0 ? [] : this.decided;
  }

  get families(): readonly Family[] {
    return this.cidrs.map((cidr) => familyOf(cidr.split('/')[0]!));
  }

  /** Undefined if services get no addresses of that family. */
  cidrOf(family: Family): string | undefined {
    return this.cidrs[this.families.indexOf(family)];
  }

  /** The range of it that contains an address. */
  containing(value: bigint): Subnet | undefined {
    const { cidrs } = this;
    if (this.#parsed?.cidrs !== cidrs) this.#parsed = { cidrs, subnets: cidrs.map(parseSubnet) };
    return this.#parsed.subnets.find(({ first, last }) => first <= value && value <= last);
  }

  /** What of a new network overlaps it, if that is decided. @param texts of `subnets` */
  clash(subnets: readonly Subnet[], texts: readonly string[]): string | undefined {
    for (const cidr of this.decided) {
      const at = subnets.findIndex((subnet) => overlaps(subnet, parseSubnet(cidr)));
      if (at >= 0) {
        return `subnet ${texts[at]} overlaps ${cidr}, where services get their addresses (--service-cidr): choose another`;
      }
    }
    return undefined;
  }

  /** What does not go together with it: the configuration of this host, and networks. */
  clashes(): ClashReport[] {
    const wrong = this.#wrong ?? this.difference();
    const hint = 'until then, this host stores no service that gets an address';
    return [...(wrong === undefined ? [] : [{ detail: wrong, hint }]), ...this.#overlaps()];
  }

  /** Networks are refused once it is decided; others were there before that, or were written by another program. */
  #overlaps(): ClashReport[] {
    const networks = this.#environment.networks.all();
    if (this.#compared?.networks === networks && this.#compared.cidrs === this.cidrs) return this.#compared.found;
    const mend = this.#stored === undefined ? ', or start the hosts with another --service-cidr' : '';
    const found = this.#overlapsOf(this.cidrs).map(({ cidr, which }) => ({
      detail: `${which} overlaps ${cidr}, where services get their addresses (--service-cidr)`,
      hint: `no service gets an address until then: give the network another subnet${mend}`,
    }));
    this.#compared = { networks, cidrs: this.cidrs, found };
    return found;
  }

  /** What of networks has addresses of these, by name. */
  #overlapsOf(cidrs: readonly string[]): { readonly cidr: string; readonly which: string }[] {
    const ranges = cidrs.map((cidr) => ({ cidr, subnet: parseSubnet(cidr) }));
    return this.#environment.networks
      .all()
      .flatMap(({ name, pools }) =>
        pools.flatMap(({ subnet, addresses }) =>
          ranges
            .filter((range) => overlaps(addresses, range.subnet))
            .map(({ cidr }) => ({ cidr, which: `subnet ${subnet} of network "${name}"` })),
        ),
      );
  }

  /** How this host's configuration differs from what the cluster has; undefined if it does not. */
  difference(): string | undefined {
    const { configured } = this.#environment;
    if (configured === undefined || this.#stored === undefined) return undefined;
    if (isDeepStrictEqual([...configured].sort(), [...this.#stored].sort())) return undefined;
    return `--service-cidr ${configured.join(' and ')}: the services of this cluster get their addresses from ${this.#stored.join(' and ')}: start this host with that, or without the option`;
  }

  /**
   * What a change stores that gives a service an address: the record, if it is the first one.
   * @throws WeftError if this host is configured otherwise, if the record is not accepted, or if networks have such addresses
   */
  plan(draft: Draft): readonly (Put & { readonly revision: number })[] {
    const wrong = this.#wrong ?? this.difference();
    if (wrong !== undefined) throw new WeftError('conflict', wrong);
    if (this.#stored !== undefined) {
      const [overlap] = this.#overlaps();
      if (overlap) throw new WeftError('conflict', `${overlap.detail}: ${overlap.hint}`);
      return [];
    }
    const subnets = this.cidrs;
    const clash = this.#environment.networks.clash(draft, subnets.map(parseSubnet), subnets);
    if (clash !== undefined) {
      throw new WeftError(
        'conflict',
        `services get their addresses from ${subnets.join(' and ')}, and ${clash}: start the hosts with another --service-cidr`,
      );
    }
    return [
      { key: KEY, value: { subnets }, revision: this.#revision },
      ...this.#environment.networks.alsoStored(draft),
    ];
  }

  see(changes: readonly Change[]): void {
    for (const { key, entry } of changes) if (key === KEY) this.#take(entry?.value, entry?.revision ?? 0);
  }

  listed(keys: ReadonlySet<string>): void {
    if (!keys.has(KEY)) this.#take(undefined, 0);
  }

  /** Without the record, the next service would decide anew, perhaps for another range than the services have that are there. */
  #remedy(): string {
    if (this.#stored) return `write ${JSON.stringify({ subnets: this.#stored })} there, which was in force before`;
    return 'delete that record, and start the host that stores the next service with the former --service-cidr';
  }

  #take(value: unknown, revision: number): void {
    this.#revision = revision;
    this.#wrong = undefined;
    try {
      this.#stored = value === undefined ? undefined : this.#accepted(value);
    } catch (error) {
      const { message } = error as Error;
      this.#wrong = `${KEY}, where the store has from where services get their addresses: ${message}: ${this.#remedy()}`;
    }
  }
  /** @throws WeftError if no host would have written it. At a start, networks are not known yet. */
  #accepted(value: unknown): readonly string[] {
    const { subnets } = validate(serviceRangeRecord, value);
    if (isDeepStrictEqual(subnets, this.#stored)) return subnets;
    const [overlap] = this.#overlapsOf(subnets);
    if (overlap) throw new WeftError('conflict', `${overlap.cidr} overlaps ${overlap.which}`);
    return subnets;
  }
}
