/**
 * Hosts: the other ends of the overlay. The addresses given by `--peer` are
 * VTEPs without a name; Host resources name one, so that endpoints of other
 * hosts can say where they are.
 */
import { WeftError } from '../error.ts';
import { formatIp, isIp4, parseIp } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import { compareNames } from '../model/name-order.ts';
import type { HostResource } from '../model/resource.ts';
import type { Store } from '../store/store.ts';

export interface HostsEnvironment {
  readonly store: Store;
  readonly forwarding: Forwarding;
  /** This host's own. */
  readonly name: string;
  /** Its address, 16 bytes; undefined without an underlay, and until it is known. */
  readonly underlay: () => Uint8Array | undefined;
  /** From the configuration, 16 bytes each. */
  readonly peers: readonly Uint8Array[];
}

const prefix = 'hosts/';

export class Hosts {
  readonly #environment: HostsEnvironment;
  readonly #hosts = new Map<string, HostResource>();

  constructor(environment: HostsEnvironment) {
    this.#environment = environment;
  }

  async load(): Promise<void> {
    const { store, forwarding, peers } = this.#environment;
    for (const peer of peers) forwarding.addVtep(peer);
    for (const { value } of (await store.list(prefix)).entries) {
      const host = value as HostResource;
      this.#hosts.set(host.metadata.name, host);
      forwarding.addVtep(parseIp(host.spec.underlay));
    }
  }

  get size(): number {
    return this.#hosts.size;
  }

  /** @throws WeftError('not_found') */
  get(name: string): HostResource {
    const host = this.#hosts.get(name);
    if (!host)
      throw new WeftError('not_found', `host "${name}" does not exist: apply a Host that says its underlay address`);
    return host;
  }

  all(): HostResource[] {
    return [...this.#hosts.values()].sort((a, b) => compareNames(a.metadata.name, b.metadata.name));
  }

  /** Underlay addresses of all VTEPs, by `--peer` or by Host. */
  vteps(): string[] {
    const { peers } = this.#environment;
    return [...new Set([...peers.map(formatIp), ...this.all().map((host) => host.spec.underlay)])];
  }

  plan(resource: HostResource): 'created' | 'configured' | 'unchanged' {
    const { name } = resource.metadata;
    const { underlay } = resource.spec;
    const own = this.#environment.underlay();
    if (name === this.#environment.name) throw new WeftError('conflict', `host "${name}" is this host itself`);
    if (own && formatIp(own) === underlay) {
      throw new WeftError('conflict', `host "${name}": underlay ${underlay} is the address of this host itself`);
    }
    if (own && isIp4(own) !== isIp4(parseIp(underlay))) {
      throw new WeftError(
        'invalid',
        `host "${name}": underlay ${underlay} is not of the family of this host’s underlay ${formatIp(own)}`,
      );
    }
    for (const other of this.#hosts.values()) {
      if (other.metadata.name !== name && other.spec.underlay === underlay) {
        throw new WeftError(
          'conflict',
          `host "${name}": underlay ${underlay} is taken by host "${other.metadata.name}"`,
        );
      }
    }
    const known = this.#hosts.get(name);
    if (!known) return 'created';
    if (known.spec.underlay !== underlay) {
      throw new WeftError(
        'conflict',
        `host "${name}" exists with underlay ${known.spec.underlay}, not ${underlay}: delete it first`,
      );
    }
    return JSON.stringify(known) === JSON.stringify(resource) ? 'unchanged' : 'configured';
  }

  async apply(resource: HostResource): Promise<'created' | 'configured' | 'unchanged'> {
    const action = this.plan(resource);
    if (action === 'unchanged') return action;
    const { name } = resource.metadata;
    await this.#environment.store.transact({ put: [{ key: prefix + name, value: resource }] });
    this.#hosts.set(name, resource);
    this.#environment.forwarding.addVtep(parseIp(resource.spec.underlay));
    return action;
  }

  /** The caller has made sure that no endpoint is on it. */
  async remove(name: string): Promise<void> {
    const host = this.get(name);
    await this.#environment.store.transact({ delete: [prefix + name] });
    this.#hosts.delete(name);
    if (!this.vteps().includes(host.spec.underlay))
      this.#environment.forwarding.removeVtep(parseIp(host.spec.underlay));
  }
}
