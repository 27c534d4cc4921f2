/** Which backend a connection from before a restart has: its record says where the client has sent to, and where it goes. */
import { bytesId } from '../flow/key.ts';
import type { Unclaimed } from './backends.ts';
import type { BackendIndex } from './candidates.ts';
import { nodePortOffset } from './node-ports.ts';
import { portOffset } from './service-addresses.ts';
import type { Service, ServicePort } from './service.ts';

/**
 * @param front the service that the client has sent to, and whether it was to a node port
 * @param to the service whose backend it may be: the same one, or one that its routes lead to
 */
export function claimedBackend(
  { protocol, l4Port, end }: Omit<Unclaimed, 'back'>,
  front: { readonly service: Service; readonly isPublished: boolean },
  to: Service,
): { readonly port: ServicePort; readonly at: BackendIndex } | undefined {
  const offsetOf = front.isPublished ? nodePortOffset : portOffset;
  const asked = front.service.ports.find((port) => offsetOf(port, protocol, l4Port) !== undefined);
  if (!asked) return undefined;
  const offset = offsetOf(asked, protocol, l4Port)!;
  const ports = to === front.service ? [asked] : to.ports.filter((port) => port.protocol === protocol);
  for (const port of ports) {
    // A port of its own is reached by any number of the service in front of it.
    const target = end.l4Port - (port === asked || port.lastL4Port > port.l4Port ? offset : 0);
    const at = to.backends.findIndex(
      ({ address }, at) => port.targets[at] === target && bytesId(address) === bytesId(end.address),
    );
    if (at >= 0) return { port, at };
  }
  return undefined;
}
