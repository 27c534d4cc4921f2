/** Namespace: names of endpoints are unique within one, as in Kubernetes. */
import * as z from 'zod';
import { metadata } from '../resource.ts';
import { defineKind } from './kind.ts';

const namespaceSchema = z.strictObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('Namespace'),
  metadata,
  spec: z.strictObject({}).default({}),
});

export type NamespaceResource = z.output<typeof namespaceSchema>;

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
