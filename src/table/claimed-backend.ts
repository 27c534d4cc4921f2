/** Which backend a connection from before a restart has: its record says where the client has sent to, and where it goes. */
import { bytesId } from '../flow/key.ts';
import type { Unclaimed } from './backends.ts';
import type { BackendIndex } from './candidates.ts';
import { nodePortOffset } from './node-ports.ts';
import { portOffset } from './service-addresses.ts';
import type { Service, ServicePort } from './service.ts';

/**
 * @param front the service that the client has sent to, and whether it was to a node port
 * @param routedTo a service that its routes lead to, maybe itself: to any of its ports; undefined: the backend is its own, by the
 * port that the client has asked for
 */
export function claimedBackend(
  { protocol, l4Port, end }: Omit<Unclaimed, 'back'>,
  front: { readonly service: Service; readonly isPublished: boolean },
  routedTo: Service | undefined,
): { readonly port: ServicePort; readonly at: BackendIndex } | undefined {
  const offsetOf = front.isPublished ? nodePortOffset : portOffset;
  const asked = front.service.ports.find((port) => offsetOf(port, protocol, l4Port) !== undefined);
  if (!asked) return undefined;
  const own = offsetOf(asked, protocol, l4Port)!;
  const { backends } = routedTo ?? front.service;
  const ports = routedTo ? routedTo.ports.filter((port) => port.protocol === protocol) : [asked];
  for (const port of ports) {
    const leadsThere = (target: number): boolean => {
      const offset = end.l4Port - target;
      return routedTo ? offset >= 0 && offset <= port.lastL4Port - port.l4Port : offset === own;
    };
    const at = backends.findIndex(
      ({ address }, at) =>
        (port.targets[at] ?? 0) !== 0 && leadsThere(port.targets[at]!) && bytesId(address) === bytesId(end.address),
    );
    if (at >= 0) return { port, at };
  }
  return undefined;
}
