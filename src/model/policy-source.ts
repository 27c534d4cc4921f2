/**
 * Where a policy was written: the annotation `weft.dev/source`, which `apply` adds to what it reads from a file, so that every host
 * can name the file and the line of the rule that decides.
 *
 *   weft.dev/source: policies/db.yaml:12 ingress=17,22 egress=30      the line of the policy, and of each of its rules
 *
 * What a document says itself stays, as of one that `get -o yaml` has printed. It says nothing about what the policy does: if
 * nothing else differs, a policy is unchanged.
 */
import { ANNOTATION_PREFIX } from './annotations.ts';
import type { Resource } from './resource.ts';

export const SOURCE = `${ANNOTATION_PREFIX}source`;

type Direction = 'ingress' | 'egress';
const directions: readonly Direction[] = ['ingress', 'egress'];

const WRITTEN = /^(.+):(\d+)((?: (?:ingress|egress)=\d+(?:,\d+)*)*)$/;

/** The text that a resource was read from. */
export interface Source {
  readonly file: string;
  /** The line where a field of the resource begins; without a path, the resource itself. */
  readonly lineOf: (path: readonly PropertyKey[]) => number;
}

export interface PolicySource {
  /** `FILE:LINE` */
  readonly policy: string;
  /** The same of each rule. */
  readonly ingress: readonly string[];
  readonly egress: readonly string[];
}

/** Undefined if the text says no such thing. */
export function readPolicySource(text: string | undefined): PolicySource | undefined {
  const [, file, line, rest = ''] = WRITTEN.exec(text ?? '') ?? [];
  if (file === undefined) return undefined;
  const rules = (direction: Direction): string[] => {
    const [, lines] = new RegExp(` ${direction}=([\\d,]+)`).exec(rest) ?? [];
    return lines === undefined ? [] : lines.split(',').map((one) => `${file}:${one}`);
  };
  return { policy: `${file}:${line}`, ingress: rules('ingress'), egress: rules('egress') };
}

/** The policy with where it was written, if it does not say that itself. */
export function withPolicySource<R extends Resource>(policy: R, { file, lineOf }: Source): R {
  const { metadata } = policy;
  const spec = policy.spec as Readonly<Partial<Record<Direction, readonly unknown[] | null>>>;
  if (metadata.annotations?.[SOURCE] !== undefined) return policy;
  const rules = directions.flatMap((direction) => {
    const lines = (spec[direction] ?? []).map((_, index) => lineOf(['spec', direction, index]));
    return lines.length === 0 ? [] : [` ${direction}=${lines.join(',')}`];
  });
  const annotations = { ...metadata.annotations, [SOURCE]: `${file}:${lineOf([])}${rules.join('')}` };
  return { ...policy, metadata: { ...metadata, annotations } };
}

/** The policy without that. */
export function withoutPolicySource<R extends Resource>(policy: R): R {
  const { annotations } = policy.metadata;
  if (annotations?.[SOURCE] === undefined) return policy;
  const { [SOURCE]: _, ...rest } = annotations;
  const { annotations: __, ...metadata } = policy.metadata;
  return { ...policy, metadata: { ...metadata, ...(Object.keys(rest).length > 0 && { annotations: rest }) } };
}
