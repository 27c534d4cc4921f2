/**
 * Tunnel: the destinations become actions. Local ports are sent to, VTEPs get
 * the frame encapsulated with the network's VNI (RFC 7348 §5).
 */
import type { Action } from '../flow/action.ts';
import { formatIp } from '../flow/types.ts';
import { drop, type Stage } from './stage.ts';

export const tunnel: Stage = (_view, context) => {
  const { topology } = context.tables;
  const { vni } = context.network!;
  const actions = context.destinations.map(
    (where): Action =>
      where.kind === 'port' ? { op: 'output', port: where.port } : { op: 'encap', vni, vtep: where.vtep },
  );
  const vteps = context.destinations.flatMap((where) => (where.kind === 'vtep' ? [formatIp(where.vtep)] : []));
  if (vteps.length > 0 && topology.tunnelPort === undefined) {
    return drop('underlay_missing', `VTEP ${vteps.join(', ')} is on another host, and this one has no underlay`);
  }
  const ports = context.destinations.flatMap((where) =>
    where.kind === 'port' ? [topology.port(where.port)?.name ?? String(where.port)] : [],
  );
  const parts = [
    ...(ports.length > 0 ? [`send to ${some(ports)}`] : []),
    ...(vteps.length > 0 ? [`encapsulate with VNI ${vni} to ${some(vteps)}`] : []),
  ];
  return { kind: 'decide', because: parts.join('; '), actions };
};

/** The first few of a list that can be as long as a network has ports. */
function some(names: readonly string[]): string {
  const shown = names.slice(0, 4).join(', ');
  return names.length > 4 ? `${shown} and ${names.length - 4} more` : shown;
}
