/** Host: another host of the overlay, and the address of its VTEP. */
import * as z from 'zod';
import { metadata } from '../resource.ts';
import { unicastAddress } from '../value.ts';
import { defineKind, WEFT_V1 } from './kind.ts';

const hostSchema = z.strictObject({
  apiVersion: z.literal(WEFT_V1),
  kind: z.literal('Host'),
  metadata,
  spec: z.strictObject({ underlay: unicastAddress }),
});

export type HostResource = z.output<typeof hostSchema>;

export const hostKind = defineKind({
  kind: 'Host',
  plural: 'hosts',
  shortNames: [],
  apiVersion: WEFT_V1,
  isNamespaced: false,
  schema: hostSchema,
  references: () => [],
  columns: { heads: ['UNDERLAY'], cells: ({ spec }) => [spec.underlay] },
});
