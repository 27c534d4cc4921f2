/**
 * The label selectors of manifests, as Kubernetes has them: `matchLabels` and `matchExpressions`, all of which have to be met. An
 * empty one matches everything.
 */
import * as z from 'zod';
import type { LabelRequirement, LabelSelector } from '../../labels.ts';
import { foreignObject } from './foreign.ts';
import { label, labelKey, quote } from '../value.ts';

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const;

const operator = z.enum(OPERATORS, {
  error: ({ input }) =>
    `${input === undefined ? 'is missing' : `${quote(typeof input === 'string' ? input : JSON.stringify(input))} is not a valid selector operator`}: accepted are ${OPERATORS.join(', ')}`,
});

const expression = foreignObject({
  key: labelKey,
  operator,
  values: z.array(label).nullable().optional(),
}).superRefine(({ operator: given, values }, context) => {
  const isSet = given === 'In' || given === 'NotIn';
  const count = values?.length ?? 0;
  if (isSet === count > 0) return;
  const message = isSet
    ? "must be specified when `operator` is 'In' or 'NotIn': give at least one value"
    : "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
  context.addIssue({ code: 'custom', path: ['values'], input: undefined, message });
});

export const labelSelector = foreignObject({
  matchLabels: z.record(labelKey, label).nullable().optional(),
  matchExpressions: z.array(expression).nullable().optional(),
});

export type LabelSelectorSpec = z.output<typeof labelSelector>;

const operators = { In: 'in', NotIn: 'notin', Exists: 'exists', DoesNotExist: 'missing' } as const;

/** All requirements of a selector; none if it matches everything. */
export function requirementsOf({ matchLabels, matchExpressions }: LabelSelectorSpec): LabelSelector {
  return [
    ...Object.entries(matchLabels ?? {}).map(
      ([key, value]): LabelRequirement => ({ key, operator: 'in', values: [value] }),
    ),
    ...(matchExpressions ?? []).map(
      ({ key, operator: given, values }): LabelRequirement => ({
        key,
        operator: operators[given],
        values: values ?? [],
      }),
    ),
  ];
}

/** As kubectl shows them: `app=web,tier in (a,b),!old`. */
export function labelSelectorText({ matchLabels, matchExpressions }: LabelSelectorSpec): string {
  const labels = Object.entries(matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  const expressions = (matchExpressions ?? []).map(({ key, operator: given, values }) => {
    const list = (values ?? []).join(',');
    switch (given) {
      case 'In':
        return `${key} in (${list})`;
      case 'NotIn':
        return `${key} notin (${list})`;
      case 'Exists':
        return key;
      case 'DoesNotExist':
        return `!${key}`;
      default:
        return given satisfies never;
    }
  });
  const all = [...labels.sort(), ...expressions];
  return all.length === 0 ? '<none>' : all.join(',');
}
