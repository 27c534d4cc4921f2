/**
 * What policies see of endpoints: their namespace, their labels and those of the namespace, and their named ports. Equal ones are
 * one object, which everything that is found out about it can be kept by. Nothing is kept here of an endpoint itself.
 */
import { protocolNumber } from '../../flow/connection.ts';
import { NAMESPACE_NAME } from '../../model/kinds/namespace.ts';
import type { Identity, PolicyLabels } from '../../table/policy/policy.ts';
import type { Endpoint } from '../endpoint.ts';

/** How many of one namespace are kept, which have been asked for. Beyond that, equal ones may be several objects. */
const MOST_KEPT = 16_384;

interface NamespaceIdentities {
  readonly labels: PolicyLabels;
  readonly byLabels: Map<string, Identity>;
}

export class Identities {
  /** The labels that a namespace declares; undefined: nobody has declared it. */
  readonly #labelsOf: (namespace: string) => PolicyLabels | undefined;
  readonly #namespaces = new Map<string, NamespaceIdentities>();

  constructor(labelsOf: (namespace: string) => PolicyLabels | undefined) {
    this.#labelsOf = labelsOf;
  }

  of({ resource: { metadata, spec } }: Endpoint): Identity {
    const { namespace, labels } = metadata;
    const { byLabels, labels: namespaceLabels } = this.#namespace(namespace);
    const ports = spec.ports ?? [];
    const key = JSON.stringify([Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)), ports]);
    const known = byLabels.get(key);
    if (known) return known;
    if (byLabels.size >= MOST_KEPT) byLabels.clear();
    const identity: Identity = {
      namespace,
      labels,
      namespaceLabels,
      ports: ports.map(({ name, port, protocol }) => ({ name, protocol: protocolNumber(protocol), l4Port: port })),
    };
    byLabels.set(key, identity);
    return identity;
  }

  /** Its labels have changed: those of its endpoints are others from now on. */
  forget(namespace: string): void {
    this.#namespaces.delete(namespace);
  }

  #namespace(namespace: string): NamespaceIdentities {
    const known = this.#namespaces.get(namespace);
    if (known) return known;
    const labels = { ...this.#labelsOf(namespace), [NAMESPACE_NAME]: namespace };
    const made = { labels, byLabels: new Map<string, Identity>() };
    this.#namespaces.set(namespace, made);
    return made;
  }
}
