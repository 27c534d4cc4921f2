/**
 * Hook: a program in TypeScript that has a say in who begins a conversation with whom (`hooks/api.ts`). The manifest holds its
 * text, so that all hosts have it.
 */
import * as z from 'zod';
import { metadata } from '../resource.ts';
import { defineKind, WEFT_V1 } from './kind.ts';

/** Of a hook's text. */
const MOST_CHARACTERS = 65_536;
const SOURCE = `the text of the hook in TypeScript, at most ${MOST_CHARACTERS} characters, is expected`;

const hookSchema = z.strictObject({
  apiVersion: z.literal(WEFT_V1),
  kind: z.literal('Hook'),
  metadata,
  spec: z.strictObject({
    /** TypeScript, with `defineHook` as its default export. */
    source: z.string(SOURCE).min(1, SOURCE).max(MOST_CHARACTERS, SOURCE),
    /** What becomes of a flow about which it fails. */
    onError: z.enum(['deny', 'allow']).default('deny'),
  }),
});

export type HookResource = z.output<typeof hookSchema>;

export const hookKind = defineKind({
  kind: 'Hook',
  plural: 'hooks',
  shortNames: [],
  apiVersion: WEFT_V1,
  isNamespaced: false,
  isLeaf: true,
  schema: hookSchema,
  references: () => [],
  columns: {
    heads: ['ON-ERROR', 'LINES'],
    cells: ({ spec }) => [spec.onError, spec.source.trimEnd().split('\n').length],
  },
});
