/** What both datapaths ask of the specs of ports. */
import type { PortSpec } from './datapath.ts';

/** Is it the same port, whatever its limits? */
export function isSamePort(one: PortSpec, other: PortSpec): boolean {
  const identity = ({ limits: _, ...rest }: PortSpec): Record<string, unknown> => rest;
  const [left, right] = [identity(one), identity(other)];
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].every((key) => left[key] === right[key]);
}
