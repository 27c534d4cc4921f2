/** The endpoints that publish a port of their host which could be the node port of a service. */
import { NODE_PORTS } from '../../model/kinds/service.ts';
import type { Endpoint } from '../endpoint.ts';
import type { Draft } from '../reconciler.ts';

export class Publishers {
  /** By port: `30080/TCP`. */
  readonly #endpoints = new Map<string, Set<string>>();
  /** Those that the endpoints of a change will publish. */
  readonly #planned = new WeakMap<Draft, ReadonlyMap<string, string>>();
  readonly #onChange: (port: string) => void;

  /** @param onChange called with the number of a port that others publish now */
  constructor(onChange: (port: string) => void) {
    this.#onChange = onChange;
  }

  /** By port: `30080/TCP`. */
  get all(): ReadonlyMap<string, ReadonlySet<string>> {
    return this.#endpoints;
  }

  /** The endpoint that publishes a port, or will with the change. */
  of({ port, protocol }: { readonly port: number; readonly protocol: string }, draft: Draft): string | undefined {
    const key = `${port}/${protocol}`;
    const planned = draft.planned<Endpoint>('Endpoint');
    const before = [...(this.#endpoints.get(key) ?? [])].find((name) => !planned.has(name));
    return before ?? this.#plannedIn(draft).get(key);
  }

  add({ name, resource }: Endpoint): void {
    for (const key of nodePortsOf(resource)) {
      const others = this.#endpoints.get(key);
      if (others) others.add(name);
      else this.#endpoints.set(key, new Set([name]));
      this.#onChange(key.split('/')[0]!);
    }
  }

  remove({ name, resource }: Endpoint): void {
    for (const key of nodePortsOf(resource)) {
      const others = this.#endpoints.get(key);
      others?.delete(name);
      if (others?.size === 0) this.#endpoints.delete(key);
      this.#onChange(key.split('/')[0]!);
    }
  }

  /** By port. Services are planned after all endpoints of a change. */
  #plannedIn(draft: Draft): ReadonlyMap<string, string> {
    const known = this.#planned.get(draft);
    if (known) return known;
    const all = [...draft.planned<Endpoint>('Endpoint').values()];
    const made = new Map(all.flatMap(({ name, resource }) => nodePortsOf(resource).map((key) => [key, name] as const)));
    this.#planned.set(draft, made);
    return made;
  }
}

function nodePortsOf({ spec: { publish } }: Endpoint['resource']): string[] {
  return publish
    .filter(({ hostPort }) => hostPort >= NODE_PORTS.first && hostPort <= NODE_PORTS.last)
    .map(({ hostPort, protocol }) => `${hostPort}/${protocol}`);
}
