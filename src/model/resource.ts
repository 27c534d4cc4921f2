/**
 * Resources: what an operator declares, in the shape of Kubernetes manifests.
 *
 * A resource is validated only by the schema of its kind (`kinds/`); all other code trusts its
 * values. An unknown field is an error that names it, and is never ignored silently. `status` is
 * written by weft, and dropped on input.
 */
import * as z from 'zod';
import { DEFAULT_NAMESPACE } from './name.ts';
import { label, labelKey, name } from './value.ts';

export { DEFAULT_NAMESPACE, idOf, nameOf, type ResourceName } from './name.ts';

const labels = z.record(labelKey, label).default({});

/** For a kind whose names are unique in the cluster. */
export const metadata = z.strictObject({ name, labels });
/** For a kind whose names are unique within a namespace. */
export const namespacedMetadata = z.strictObject({ name, namespace: name.default(DEFAULT_NAMESPACE), labels });

/** What all kinds have in common. */
export interface Resource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    /** For a namespaced kind. */
    readonly namespace?: string;
    readonly labels: Readonly<Record<string, string>>;
    /** For an Endpoint, and for kinds of Kubernetes. */
    readonly annotations?: Readonly<Record<string, string>> | undefined;
  };
  /** Missing for a kind that has its fields beside the metadata (EndpointSlice). */
  readonly spec?: object;
}

/** How many endpoints of a slice take about as long as a resource of the usual size. */
const ENDPOINTS_PER_RESOURCE = 4;

/**
 * How long it takes to read a resource, in those of the usual size: an EndpointSlice may have a thousand endpoints.
 * @param resource as it was written
 */
export function weightOf(resource: unknown): number {
  const { endpoints } = Object(resource) as { readonly endpoints?: unknown };
  return Array.isArray(endpoints) ? 1 + endpoints.length / ENDPOINTS_PER_RESOURCE : 1;
}

/** A change of a resource that was put into force. */
export interface ResourceEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** As it is now; for `DELETED` as it was last. */
  readonly object: Resource;
}
