/** What both datapaths ask of the specs of ports. */
import type { PortSpec } from './datapath.ts';

/** Is it the same port, whatever its limits, and wherever its TAP is found by now? */
export function isSamePort(one: PortSpec, other: PortSpec): boolean {
  const identity = (spec: PortSpec): Record<string, unknown> => {
    if (spec.kind === 'tap') return { kind: spec.kind, name: spec.name };
    const { limits: _, ...rest } = spec;
    return rest;
  };
  const [left, right] = [identity(one), identity(other)];
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].every((key) => left[key] === right[key]);
}
