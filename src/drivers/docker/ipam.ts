/**
 * Docker's IPAM driver: pools are the subnets of weft's networks, and an address that Docker has asked for is an endpoint that
 * has nothing else yet. Docker asks for an address before it says for which endpoint, and gives it back after that one is gone.
 */
import { attachment as endpointOf } from '../../cluster/attachment.ts';
import { carriedName, type Carrying } from '../../cluster/carrying.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import { heldSubnet, heldText, isHeldAfterwards, type Endpoint } from '../../cluster/endpoint.ts';
import type { Network } from '../../cluster/network.ts';
import { PlanAgain } from '../../cluster/plan-again.ts';
import { WeftError } from '../../error.ts';
import { canonicalAddress, isAddress } from '../../model/address.ts';
import { DOCKER } from '../../model/endpoint-annotations.ts';
import { endpointKind } from '../../model/kinds/endpoint.ts';
import { nameOf } from '../../model/name.ts';
import { quote } from '../../model/value.ts';
import type { Store } from '../../store/store.ts';
import type { DockerEndpoints } from './endpoints.ts';
import type { ReleaseAddress, RequestAddress, RequestPool } from './protocol.ts';

export interface IpamEnvironment {
  readonly cluster: () => Pick<Cluster, 'change' | 'applyOrTakeBack' | 'deleteNow' | 'requireKnown'>;
  readonly endpoints: { find(name: string): Endpoint | undefined; readonly carrying: Carrying };
  readonly networks: { get(name: string): Network };
  readonly dockerEndpoints: DockerEndpoints;
  /** What only this host keeps. */
  readonly own: Store;
  /** Returns a text of hexadecimal digits that was not there before. */
  readonly newId: () => string;
  readonly onFailure: (details: object) => void;
}

type Pool = Network['pools'][number];

/** Where endpoints of Docker are that are in no container yet. */
export const NOWHERE = '/run/docker/netns';
/** Also that by which the network driver knows that addresses are weft's. */
export const ADDRESS_SPACE = 'weft';
const TYPE = 'RequestAddressType';
const GATEWAY = 'com.docker.network.gateway';
/** How often in a row Docker may ask for a subnet that it does not like (`#refuseLoop`). */
const MOST_ASKED = 4;
const ID_DIGITS = 8;
/** Addresses that are asked for by name, until Docker has its answer. */
const ASKED = 'docker/asked/';

export class Ipam {
  readonly #environment: IpamEnvironment;
  /** The endpoints whose addresses the dockerd that runs now does not know; undefined: no other one has run since weft's start. */
  #unknown: Set<string> | undefined;
  /**
   * What was held when weft started. It may have been killed before it could say so: then Docker does not know that it has the
   * address. One that was asked for by name and not answered is noted as such (`ASKED`), and Docker asks for it again.
   */
  #unanswered: Set<string> | undefined;
  /** Notes of what is answered that could not be deleted yet. */
  readonly #answered = new Set<string>();
  /** What looked like left by Docker at the last `releaseLeft`. */
  #left: ReadonlySet<string> | undefined;
  /** How often each pool was asked for, and nothing else of it since. */
  readonly #asked = new Map<string, number>();

  constructor(environment: IpamEnvironment) {
    this.#environment = environment;
  }

  /** Another dockerd has started: it asks again for the addresses that it knows of (`RequiresRequestReplay`). */
  forget(): void {
    this.#unknown = new Set(this.#environment.endpoints.carrying.all().map(({ name }) => name));
    this.#unanswered = new Set();
  }

  /** Notes what is held while nobody has asked yet. Call it within `serial`. */
  begin(): void {
    this.#unanswered ??= new Set(
      this.#environment.endpoints.carrying.all().flatMap((endpoint) => (isHeld(endpoint) ? endpoint.name : [])),
    );
  }

  /**
   * Call it within `change`, at the start and then each time after Docker has repeated all that it repeats: releases what was
   * left at the call before, and still is. Docker says once that an endpoint is gone and an address is free, and goes on if that
   * fails, or weft is not there.
   */
  async releaseLeft(): Promise<void> {
    const { carrying } = this.#environment.endpoints;
    const before = this.#left;
    if (before) await this.#releaseUnanswered();
    const left = [...carrying.all().filter(({ resource }) => isHeldAfterwards(resource)), ...carrying.broughtBack()];
    for (const endpoint of left) if (before?.has(whichText(endpoint))) await this.#release(endpoint.name);
    // Not before: it may be run again.
    this.#left = new Set(left.map(whichText));
  }

  /** An address that was asked for by name, and answered, may be reserved for good (`--aux-address`). */
  async #releaseUnanswered(): Promise<void> {
    const { endpoints, own } = this.#environment;
    const notes = (await own.list(ASKED)).entries.map(({ key }) => key);
    const asked = notes.filter((key) => !this.#answered.has(key));
    for (const name of this.#unanswered ?? []) {
      const endpoint = endpoints.find(name);
      if (endpoint && isHeld(endpoint)) {
        const { network, addresses } = endpoint.resource.spec;
        if (addresses.every((ip) => asked.includes(keyOf(network, ip))) && !(await this.#release(name))) continue;
      }
      this.#unanswered!.delete(name);
    }
    const done = this.#unanswered?.size ? [...this.#answered] : notes;
    if (done.length > 0) await own.transact({ delete: done });
    this.#answered.clear();
  }

  /** @returns false if that is to be tried again */
  async #release(name: string): Promise<boolean> {
    const { cluster, endpoints, onFailure } = this.#environment;
    try {
      await endpoints.carrying.end(name);
      await cluster().deleteNow(endpointKind, nameOf(name));
      return true;
    } catch (error) {
      if (error instanceof PlanAgain) throw error;
      onFailure({ endpoint: name, why: (error as Error).message });
      return false;
    }
  }

  requestPool({ Pool: wanted, SubPool, Options, V6 }: RequestPool): object {
    const { network: name } = Options;
    const family = V6 ? 'IPv6' : 'IPv4';
    if (!name) {
      throw new WeftError(
        'invalid',
        'the IPAM option network is missing: docker network create -d weft --ipam-driver weft --ipam-opt network=NAME -o network=NAME …',
      );
    }
    const network = this.#environment.networks.get(name);
    if (SubPool) {
      throw new WeftError(
        'invalid',
        `--ip-range ${quote(SubPool)} is not accepted: the range is that of weft's network`,
      );
    }
    const pools = network.pools.filter(({ subnet }) => subnet.includes(':') === (V6 ?? false));
    const subnets = pools.map(({ subnet }) => subnet);
    if (pools.length === 0) throw new WeftError('invalid', `network "${name}" has no ${family} subnet`);
    const pool = wanted ? pools.find(({ subnet }) => subnet === wanted) : pools[0];
    if (!pool) {
      throw new WeftError(
        'invalid',
        `--subnet ${quote(wanted)} is not of network "${name}": it has ${subnets.join(' and ')}`,
      );
    }
    const id = `${name}/${pool.subnet}`;
    if (!wanted) this.#refuseLoop(id, pool);
    return { PoolID: id, Pool: pool.subnet, Data: {} };
  }

  /** What it had stays: pools are weft's. */
  releasePool(): object {
    return {};
  }

  async requestAddress({ PoolID, Address, Options }: RequestAddress): Promise<object> {
    const { network, pool } = this.#poolOf(PoolID);
    this.#asked.delete(PoolID);
    const wanted = Address ? addressOf(Address) : undefined;
    const answer = (ip: string): object => ({ Address: `${ip}/${pool.prefixLength}`, Data: {} });
    if (Options[TYPE] === GATEWAY || wanted === pool.gateway) {
      if (wanted === undefined || wanted === pool.gateway) return answer(pool.gateway);
      throw new WeftError(
        'invalid',
        `--gateway ${wanted} is not accepted: the gateway of network "${network.name}" in ${pool.subnet} is ${pool.gateway}`,
      );
    }
    return this.#environment.cluster().change(async () => {
      const holder = wanted === undefined ? undefined : this.#environment.dockerEndpoints.at(network.name, wanted);
      this.begin();
      // It has asked before, and its dockerd does not know that any more, or was not told.
      if (holder !== undefined && (this.#unknown?.delete(holder) || (await this.#takeUnanswered(holder, wanted!))))
        return answer(wanted!);
      if (wanted === undefined) return answer(await this.#hold(network.name, pool, wanted));
      return answer(await this.#noted(network.name, wanted, () => this.#hold(network.name, pool, wanted)));
    });
  }

  /**
   * Does nothing for an address that nobody holds, or whose endpoint is in a container: what Docker says late must not hit
   * whoever has it by now.
   */
  async releaseAddress({ PoolID, Address }: ReleaseAddress): Promise<object> {
    const { cluster, endpoints, dockerEndpoints } = this.#environment;
    const network = PoolID.slice(0, Math.max(0, PoolID.indexOf('/')));
    return cluster().change(async () => {
      const name = isAddress(bare(Address)) ? dockerEndpoints.at(network, addressOf(Address)) : undefined;
      if (name === undefined) return {};
      await endpoints.carrying.look();
      const endpoint = endpoints.find(name);
      if (!endpoint || endpoints.carrying.isInContainer(endpoint)) return {};
      this.#unknown?.delete(name);
      await endpoints.carrying.end(name);
      await cluster().deleteNow(endpointKind, nameOf(name));
      return {};
    });
  }

  /** @returns the address; the requested one if there is one */
  async #hold(network: string, pool: Pool, wanted: string | undefined): Promise<string> {
    const { cluster, endpoints, newId } = this.#environment;
    const nameFor = (digits: string): string => `docker-${digits.slice(0, ID_DIGITS)}`;
    let id = newId();
    // One that exists would become the hold.
    while (endpoints.find(nameFor(id))) id = newId();
    const resource = endpointOf(
      {
        ...{ name: nameFor(id), network, netns: NOWHERE, ifname: carriedName(id) },
        ...(wanted !== undefined && { ip: [wanted] }),
        annotations: { [DOCKER]: heldText(pool.subnet) },
      },
      undefined,
    );
    await cluster().applyOrTakeBack(resource);
    return endpoints.find(resource.metadata.name)!.addresses[0]!;
  }

  /** Holds an address that was asked for by name: until that is answered, it is noted that it is not. */
  async #noted(network: string, ip: string, hold: () => Promise<string>): Promise<string> {
    const { own, onFailure } = this.#environment;
    const key = keyOf(network, ip);
    await own.transact({ put: [{ key, value: {} }] });
    try {
      return await hold();
    } finally {
      await own.transact({ delete: [key] }).catch((error: unknown) => {
        // A note that stays would release the address after the next start.
        this.#answered.add(key);
        onFailure({ address: ip, why: (error as Error).message });
      });
    }
  }

  async #takeUnanswered(name: string, ip: string): Promise<boolean> {
    const { endpoints, own } = this.#environment;
    const endpoint = endpoints.find(name);
    if (!endpoint || !isHeld(endpoint) || !this.#unanswered!.has(name)) return false;
    const key = keyOf(endpoint.resource.spec.network, ip);
    if (!(await own.get(key))) return false;
    this.#unanswered!.delete(name);
    await own.transact({ delete: [key] });
    return true;
  }

  #poolOf(id: string): { readonly network: Network; readonly pool: Pool } {
    const at = id.indexOf('/');
    const [name, subnet] = [id.slice(0, Math.max(0, at)), id.slice(at + 1)];
    if (name === '') throw new WeftError('invalid', `PoolID ${quote(id)} is none of weft's`);
    const network = this.#environment.networks.get(name);
    const pool = network.pools.find((one) => one.subnet === subnet);
    if (!pool) throw new WeftError('not_found', `network "${name}" has no subnet ${quote(subnet)} any more`);
    return { network, pool };
  }

  /** Without a subnet, Docker asks on while what it gets overlaps with a route of the host, and would never end. */
  #refuseLoop(id: string, { subnet }: Pool): void {
    const asked = (this.#asked.get(id) ?? 0) + 1;
    this.#asked.set(id, asked);
    if (asked <= MOST_ASKED) return;
    this.#asked.delete(id);
    throw new WeftError('invalid', `Docker does not accept ${subnet} by itself: give it with --subnet ${subnet}`);
  }
}

function keyOf(network: string, ip: string): string {
  return `${ASKED}${network}/${ip}`;
}

/** An endpoint of Docker's, and not the next one with its name. */
function whichText({ name, resource }: Endpoint): string {
  return `${name} ${resource.metadata.annotations![DOCKER]}`;
}

function isHeld({ resource }: Endpoint): boolean {
  return heldSubnet(resource) !== undefined;
}

/** @throws WeftError('invalid') */
export function addressOf(text: string): string {
  if (!isAddress(bare(text))) throw new WeftError('invalid', `${quote(text)} is not an IPv4 or IPv6 address`);
  return canonicalAddress(bare(text));
}

function bare(text: string): string {
  return text.split('/')[0]!;
}
