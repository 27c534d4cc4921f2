/**
 * PolicyTest: a packet, or many, and what policies are expected to say of it. Whatever is applied, labelled or deleted is held
 * against all of them before anything is stored, and refused if one would fail by it.
 */
import * as z from 'zod';
import { namespacedMetadata } from '../resource.ts';
import { ipAddress, name, quote } from '../value.ts';
import { defineKind, WEFT_V1 } from './kind.ts';
import { labelSelector, labelSelectorText } from './label-selector.ts';

const WAYS = ['endpoint', 'selector', 'address'] as const;

const end = z
  .strictObject({
    /** One endpoint, by its name. */
    endpoint: name.optional(),
    /** All endpoints of one namespace with such labels. */
    selector: labelSelector.optional(),
    /** Where these are; that of the test if it is not given. */
    namespace: name.optional(),
    /** Whoever has it. */
    address: ipAddress.optional(),
  })
  .superRefine((given, context) => {
    const ways = WAYS.filter((way) => given[way] !== undefined);
    if (ways.length !== 1)
      context.addIssue({ code: 'custom', message: `give exactly one of ${WAYS.join(', ')}`, input: given });
    else if (given.address !== undefined && given.namespace !== undefined)
      context.addIssue({ code: 'custom', path: ['namespace'], message: 'an address is in no namespace: leave it out' });
  });

const PORTS = 'a port is a whole number, 1 to 65535';
const MISSING = 'is missing: a port is expected';

const policyTestSchema = z
  .strictObject({
    apiVersion: z.literal(WEFT_V1),
    kind: z.literal('PolicyTest'),
    metadata: namespacedMetadata,
    spec: z.strictObject({
      from: end,
      to: end,
      /** The destination port, after all translation. */
      port: z
        .int({ error: ({ input }) => (input === undefined ? MISSING : PORTS) })
        .min(1, PORTS)
        .max(65_535, PORTS),
      protocol: z.enum(['TCP', 'UDP', 'SCTP']).default('TCP'),
      expect: z.enum(['allow', 'deny']),
    }),
  })
  .superRefine(({ spec: { from, to } }, context) => {
    if (from.address === undefined || to.address === undefined) return;
    const [a, b] = [from.address, to.address];
    if (a.includes(':') === b.includes(':')) return;
    const message = `${quote(b)} and ${quote(a)} are of different address families`;
    context.addIssue({ code: 'custom', path: ['spec', 'to', 'address'], input: b, message });
  });

export type PolicyTestResource = z.output<typeof policyTestSchema>;
export type PolicyTestEnd = z.output<typeof end>;

/** For people: `web`, `ops/web`, `app=web`, `ops/app=web`, `10.0.0.9`. */
export function policyTestEndText({ endpoint, selector, namespace, address }: PolicyTestEnd): string {
  const what = endpoint ?? address ?? labelSelectorText(selector!);
  return namespace === undefined ? what : `${namespace}/${what}`;
}

export const policyTestKind = defineKind<PolicyTestResource>({
  kind: 'PolicyTest',
  plural: 'policytests',
  shortNames: ['pt'],
  apiVersion: WEFT_V1,
  isNamespaced: true,
  isLeaf: true,
  schema: policyTestSchema,
  references: () => [],
  columns: {
    heads: ['FROM', 'TO', 'PORT', 'EXPECT'],
    cells: ({ spec }) => [
      policyTestEndText(spec.from),
      policyTestEndText(spec.to),
      `${spec.protocol.toLowerCase()}/${spec.port}`,
      spec.expect,
    ],
  },
});
