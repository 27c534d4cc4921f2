/** Label selectors, as whoever writes resources and whoever forwards packets understand them alike. */

/** One condition of a label selector. `notin` and `missing` also match what does not have the key. */
export interface LabelRequirement {
  readonly key: string;
  readonly operator: 'in' | 'notin' | 'exists' | 'missing';
  /** For `in` and `notin`. */
  readonly values: readonly string[];
}

/** All conditions must be met; none means everything. */
export type LabelSelector = readonly LabelRequirement[];

export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const requirement of selector) if (!isMet(requirement, labels)) return false;
  return true;
}

function isMet({ key, operator, values }: LabelRequirement, labels: Readonly<Record<string, string>>): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case 'in':
      return value !== undefined && values.includes(value);
    case 'notin':
      return value === undefined || !values.includes(value);
    case 'exists':
      return value !== undefined;
    case 'missing':
      return value === undefined;
    default:
      return operator satisfies never;
  }
}
