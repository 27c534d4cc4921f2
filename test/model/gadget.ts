/** A made-up kind. As for every kind, everything about it is in one file. */
import * as z from 'zod';
import { defineKind, WEFT_V1 } from '../../src/model/kinds/kind.ts';
import { namespacedMetadata } from '../../src/model/resource.ts';
import { name } from '../../src/model/value.ts';

export const gadgetKind = defineKind({
  kind: 'Gadget',
  plural: 'gadgets',
  shortNames: ['gg'],
  apiVersion: WEFT_V1,
  isNamespaced: true,
  schema: z.strictObject({
    apiVersion: z.literal(WEFT_V1),
    kind: z.literal('Gadget'),
    metadata: namespacedMetadata,
    spec: z.strictObject({
      network: name,
      size: z.int().default(1),
      /** Another gadget, perhaps in another namespace. */
      partner: z.strictObject({ name, namespace: name.optional() }).optional(),
    }),
  }),
  references: ({ spec: { network, partner } }) => [
    { kind: 'Network', name: network },
    ...(partner === undefined ? [] : [{ kind: 'Gadget', ...partner }]),
  ],
  columns: { heads: ['NETWORK', 'SIZE'], cells: ({ spec }) => [spec.network, spec.size] },
});
