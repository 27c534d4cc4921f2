/** Namespace: names of endpoints are unique within one, as in Kubernetes, and policies select by its labels. */
import * as z from 'zod';
import { checkedBy } from '../annotations.ts';
import { ON_DENY, readPolicyAnnotations } from '../policy-annotations.ts';
import { readIfValid } from '../read-if-valid.ts';
import { name, quote } from '../value.ts';
import { defineKind } from './kind.ts';
import { clusterMetadata } from './upstream.ts';

/** The label that each namespace has by itself. */
export const NAMESPACE_NAME = 'kubernetes.io/metadata.name';

const namespaceSchema = z
  .strictObject({
    apiVersion: z.literal('v1'),
    kind: z.literal('Namespace'),
    metadata: clusterMetadata(name),
    spec: z.strictObject({}).default({}),
  })
  .superRefine(({ metadata: { name: own, labels } }, context) => {
    const given = labels[NAMESPACE_NAME];
    if (given !== undefined && given !== own)
      context.addIssue({
        code: 'custom',
        path: ['metadata', 'labels', NAMESPACE_NAME],
        input: given,
        message: `${quote(given)} is not accepted: each namespace has its own name there, leave it out`,
      });
  })
  .superRefine(checkedBy((annotations, refuse) => readPolicyAnnotations(annotations, refuse, [ON_DENY])));

export type NamespaceResource = z.output<typeof namespaceSchema>;

/** Labels and annotations of a record that is not accepted as a whole; undefined if they cannot be read. */
export function readNamespaceMetadata(own: string, resource: unknown): NamespaceResource['metadata'] | undefined {
  const { metadata } = Object(resource) as { readonly metadata?: unknown };
  const { labels = {}, annotations } = Object(metadata) as Readonly<Record<string, unknown>>;
  const schema = clusterMetadata(name);
  return readIfValid(schema, { name: own, labels, annotations }) ?? readIfValid(schema, { name: own, labels });
}

export const namespaceKind = defineKind({
  kind: 'Namespace',
  plural: 'namespaces',
  shortNames: ['ns'],
  apiVersion: 'v1',
  isNamespaced: false,
  schema: namespaceSchema,
  references: () => [],
  columns: { heads: [], cells: () => [] },
});
