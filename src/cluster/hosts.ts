/**
 * Hosts: the other ends of the overlay. An address given with `--peer` is a VTEP without a name. A
 * Host resource gives it a name, so that endpoints of other hosts can say where they are.
 */
import { WeftError } from '../error.ts';
import { formatIp, isIp4, parseIp } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import type { HostResource } from '../model/kinds/host.ts';
import { Declarations } from './declarations.ts';
import type { Declared, Draft, Planned, Stored } from './reconciler.ts';

export interface HostsEnvironment {
  readonly forwarding: Forwarding;
  /** The name of this host. */
  readonly name: string;
  /** The address of this host, 16 bytes; undefined without an underlay, and until it is known. */
  readonly underlay: () => Uint8Array | undefined;
  /** The peers from the configuration, 16 bytes each. */
  readonly peers: readonly Uint8Array[];
  /** Called when a host that existed has another address, or is gone. */
  readonly onMoved: (name: string) => Promise<void>;
}

export class Hosts extends Declarations<HostResource> {
  readonly #environment: HostsEnvironment;

  constructor(environment: HostsEnvironment) {
    super('Host', 'apply a Host that says its underlay address');
    this.#environment = environment;
    for (const peer of environment.peers) environment.forwarding.addVtep(peer);
  }

  /** The underlay addresses of all VTEPs, from `--peer` or from Host resources. */
  vteps(): string[] {
    const { peers } = this.#environment;
    return [...new Set([...peers.map(formatIp), ...this.all().map(({ resource }) => resource.spec.underlay)])];
  }

  override plan(resource: HostResource, draft: Draft): Planned {
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
    refuseTakenUnderlay(resource, [...this.all(), ...draft.planned<Declared<HostResource>>('Host').values()]);
    const known = this.find(name);
    if (known && known.resource.spec.underlay !== underlay) {
      throw new WeftError(
        'conflict',
        `host "${name}" exists with underlay ${known.resource.spec.underlay}, not ${underlay}: delete it first`,
      );
    }
    return super.plan(resource, draft);
  }

  override async put(stored: readonly Stored<HostResource>[]): Promise<void> {
    const before = this.vteps();
    const moved = stored.filter(({ name, resource }) => {
      const known = this.find(name);
      return known && known.resource.spec.underlay !== resource.spec.underlay;
    });
    await super.put(stored);
    this.#follow(before);
    for (const { name } of moved) await this.#environment.onMoved(name);
  }

  override async remove(names: readonly string[]): Promise<void> {
    const before = this.vteps();
    await super.remove(names);
    this.#follow(before);
    for (const name of names) await this.#environment.onMoved(name);
  }

  #follow(before: readonly string[]): void {
    const now = this.vteps();
    for (const vtep of now) if (!before.includes(vtep)) this.#environment.forwarding.addVtep(parseIp(vtep));
    for (const vtep of before) if (!now.includes(vtep)) this.#environment.forwarding.removeVtep(parseIp(vtep));
  }
}

function refuseTakenUnderlay(
  { metadata: { name }, spec: { underlay } }: HostResource,
  hosts: readonly Declared<HostResource>[],
): void {
  const owner = hosts.find((other) => other.name !== name && other.resource.spec.underlay === underlay);
  if (owner) throw new WeftError('conflict', `host "${name}": underlay ${underlay} is taken by host "${owner.name}"`);
}
