/**
 * EndpointSlices that were written by hand: which service each is for, and which addresses it has. Those that weft makes of
 * selectors are only shown (`derived-slices.ts`).
 */
import { WeftError } from '../../error.ts';
import { SERVICE_NAME, type EndpointSliceResource } from '../../model/kinds/endpoint-slice.ts';
import { idOf, weightOf, type Resource } from '../../model/resource.ts';
import { eachInTurns } from '../../turns.ts';
import { Declarations } from '../declarations.ts';
import type { Declared, Stored } from '../reconciler.ts';

/** How many slices of the usual size are taken in one turn of the event loop, or let go. */
const PUT_PER_TURN = 1024;

export interface EndpointSlicesEnvironment {
  /** Called with the service whose slices have changed, which need not exist. `settle` follows. */
  readonly onChange: (service: string) => void;
  /** Those that are made of selectors. @param name all if it is not given */
  readonly derived: (name?: string) => Iterable<Resource>;
}

export class EndpointSlices extends Declarations<EndpointSliceResource> {
  readonly #environment: EndpointSlicesEnvironment;
  /** By service: the names of its slices. */
  readonly #byService = new Map<string, Set<string>>();
  /** By address: the slice that has it, by its name, or the slices. */
  readonly #byAddress = new Map<string, string | Set<string>>();

  constructor(environment: EndpointSlicesEnvironment) {
    super('EndpointSlice');
    this.#environment = environment;
  }

  /** Those for a service, in the order of their names. */
  of(service: string): EndpointSliceResource[] {
    const names = this.#byService.get(service);
    return names ? [...names].sort().map((name) => this.find(name)!.resource) : [];
  }

  /** True if somebody has written a slice for this service. */
  has(service: string): boolean {
    return this.#byService.has(service);
  }

  /** The services that have any. */
  services(): Iterable<string> {
    return this.#byService.keys();
  }

  /** The services that have an address. */
  withAddress(address: string): Iterable<string> {
    const at = this.#byAddress.get(address) ?? [];
    const slices = typeof at === 'string' ? [at] : [...at];
    return new Set(slices.map((slice) => serviceOfSlice(this.find(slice)!.resource)!));
  }

  get hasAddresses(): boolean {
    return this.#byAddress.size > 0;
  }

  override get(name: string): Declared<EndpointSliceResource> {
    if (!this.find(name) && [...this.#environment.derived(name)].length > 0) {
      throw new WeftError('conflict', `endpointslice "${name}" is made by weft of the selector of its service`);
    }
    return super.get(name);
  }

  derived(name?: string): Iterable<Resource> {
    return this.#environment.derived(name);
  }

  override async put(stored: readonly Stored<EndpointSliceResource>[]): Promise<void> {
    const put = (one: Stored<EndpointSliceResource>): void => {
      this.#leave(one.name);
      void super.put([one]);
      this.#enter(one.name, one.resource);
    };
    await eachInTurns(stored, PUT_PER_TURN, put, { weightOf: ({ resource }) => weightOf(resource) });
  }

  override async remove(names: readonly string[]): Promise<void> {
    const remove = (name: string): void => {
      this.#leave(name);
      void super.remove([name]);
    };
    await eachInTurns(names, PUT_PER_TURN, remove, { weightOf: (name) => weightOf(this.find(name)?.resource) });
  }

  #enter(name: string, slice: EndpointSliceResource): void {
    const service = serviceOfSlice(slice);
    if (service === undefined) return;
    const others = this.#byService.get(service);
    if (others) others.add(name);
    else this.#byService.set(service, new Set([name]));
    for (const address of addressesOf(slice)) {
      const at = this.#byAddress.get(address);
      if (at === undefined) this.#byAddress.set(address, name);
      else if (typeof at !== 'string') at.add(name);
      else if (at !== name) this.#byAddress.set(address, new Set([at, name]));
    }
    this.#environment.onChange(service);
  }

  #leave(name: string): void {
    const slice = this.find(name)?.resource;
    const service = slice && serviceOfSlice(slice);
    if (service === undefined) return;
    const others = this.#byService.get(service)!;
    others.delete(name);
    if (others.size === 0) this.#byService.delete(service);
    for (const address of addressesOf(slice!)) {
      const at = this.#byAddress.get(address);
      if (typeof at === 'object') at.delete(name);
      if (at === name || (typeof at === 'object' && at.size === 0)) this.#byAddress.delete(address);
    }
    this.#environment.onChange(service);
  }
}

/** The first address of each: further ones are the same endpoint. */
function addressesOf({ endpoints }: EndpointSliceResource): string[] {
  return endpoints.flatMap(({ addresses: [first] }) => first ?? []);
}

/** The service that it is for, by `idOf`. */
export function serviceOfSlice({ metadata: { namespace, labels } }: EndpointSliceResource): string | undefined {
  const name = labels[SERVICE_NAME];
  return name === undefined ? undefined : idOf({ name, namespace });
}
