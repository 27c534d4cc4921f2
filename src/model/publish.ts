/**
 * Published ports: a port of this host that leads to one of an endpoint, as
 * Kubernetes' `hostPort` and Docker's `--publish`.
 *
 * All of a host share weft's one transit address of each family, where the port
 * is all that tells them apart: so a port is published once, on whichever of the
 * host's addresses.
 */
import * as z from 'zod';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';
import { addressValue, isIp4 } from './address.ts';
import { listenAddress, quote } from './value.ts';

const l4Port = z
  .int({
    error: ({ input }) =>
      input === undefined ? 'is missing: a port is expected' : 'a port is a whole number, 1 to 65535',
  })
  .min(1, 'a port is 1 to 65535')
  .max(65_535, 'a port is 1 to 65535');

export const publishSpec = z
  .strictObject({
    hostPort: l4Port,
    /** Of the endpoint. */
    port: l4Port,
    protocol: z.enum(['TCP', 'UDP']).default('TCP'),
    /** Address of this host; 0.0.0.0 and :: are all of their family. By default all of both. */
    hostIP: listenAddress.optional(),
  })
  .superRefine(({ protocol, hostPort }, context) => {
    if (protocol === 'UDP' && hostPort === VXLAN_L4_PORT) {
      const message = `${VXLAN_L4_PORT}/udp is where hosts send VXLAN: choose another port`;
      context.addIssue({ code: 'custom', path: ['hostPort'], input: hostPort, message });
    }
  });

export type PublishSpec = z.output<typeof publishSpec>;
export type PortProtocol = 'TCP' | 'UDP';

/** A port of the host that is published for one family: it leads to weft's transit address, at the same port. */
export interface PublishedPort {
  readonly family: 4 | 6;
  readonly protocol: PortProtocol;
  readonly hostPort: number;
  /** The address of the host that it is published on; of its family. By default on all. */
  readonly hostIp?: string;
}

/** As it is given: not checked yet. */
export type PublishOptions = z.input<typeof publishSpec>;

/** Which families it is published for; those that the endpoint has no address of fall away. */
export function familiesOf({ hostIP }: Pick<PublishSpec, 'hostIP'>): readonly (4 | 6)[] {
  if (hostIP === undefined) return [4, 6];
  return [isIp4(addressValue(hostIP)) ? 4 : 6];
}

/** The one address of the host that it is published on; undefined when it is on all. */
export function addressOf({ hostIP }: Pick<PublishSpec, 'hostIP'>): string | undefined {
  return hostIP === '0.0.0.0' || hostIP === '::' ? undefined : hostIP;
}

/** Would both lead from the same port? */
export function isSamePort(a: PublishSpec, b: PublishSpec): boolean {
  return (
    a.hostPort === b.hostPort &&
    a.protocol === b.protocol &&
    familiesOf(a).some((family) => familiesOf(b).includes(family))
  );
}

/** `8080/tcp` */
export function portText({ hostPort, protocol }: Pick<PublishSpec, 'hostPort' | 'protocol'>): string {
  return `${hostPort}/${protocol.toLowerCase()}`;
}

/** The first that is published twice by the same endpoint, with what to say of it. */
export function findRepeated(
  publish: readonly PublishSpec[],
): { readonly index: number; readonly message: string } | undefined {
  const index = publish.findIndex((one, at) => publish.slice(0, at).some((other) => isSamePort(one, other)));
  const found = publish[index];
  return found && { index, message: `${quote(portText(found))} is published twice` };
}
