/**
 * Published ports: a port of this host that leads to a port of an endpoint, like Kubernetes'
 * `hostPort` and Docker's `--publish`.
 *
 * All endpoints of a host share weft's one transit address of each family, where only the port
 * distinguishes them. So a port is published once, whichever of the host's addresses it is
 * published on.
 */
import * as z from 'zod';
import { VXLAN_L4_PORT } from '../wire/vxlan.ts';
import { addressValue, isIp4 } from './address.ts';
import { listenAddress, quote } from './value.ts';

export const l4Port = z
  .int({
    error: ({ input }) =>
      input === undefined ? 'is missing: a port is expected' : 'a port is a whole number, 1 to 65535',
  })
  .min(1, 'a port is 1 to 65535')
  .max(65_535, 'a port is 1 to 65535');

export const publishSpec = z
  .strictObject({
    hostPort: l4Port,
    /** The endpoint's port. */
    port: l4Port,
    protocol: z.enum(['TCP', 'UDP']).default('TCP'),
    /**
     * An address of this host; 0.0.0.0 and :: mean all of their family. All addresses of both families if not given.
     */
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

/** A port of the host that is published for one family. It leads to the same port of weft's transit address. */
export interface PublishedPort {
  readonly family: 4 | 6;
  readonly protocol: PortProtocol;
  readonly hostPort: number;
  /** The host's address on which it is published, of that family. All addresses if not given. */
  readonly hostIp?: string;
  /** It is reached by the host itself at 127.0.0.1, too. */
  readonly isAtLoopback?: boolean;
}

/** A port of an address that is given to a service for clients outside. It leads to a node port, as that does itself. */
export interface ServiceAddressPort {
  readonly family: 4 | 6;
  readonly protocol: PortProtocol;
  /** Of that family. It need not be an address of this host. */
  readonly address: string;
  readonly l4Port: number;
  /** The port of weft's transit address that it leads to. */
  readonly nodePort: number;
}

/** Where clients outside come in: by ports of the host, which lead to the same port of weft, and by addresses of services. */
export interface Entries {
  readonly ports: readonly PublishedPort[];
  readonly addresses: readonly ServiceAddressPort[];
}

/** As given by the user; not checked yet. */
export type PublishOptions = z.input<typeof publishSpec>;

/** The families for which it is published. A family in which the endpoint has no address has no effect. */
export function familiesOf({ hostIP }: Pick<PublishSpec, 'hostIP'>): readonly (4 | 6)[] {
  if (hostIP === undefined) return [4, 6];
  return [isIp4(addressValue(hostIP)) ? 4 : 6];
}

/** The one address of the host on which it is published; undefined if it is published on all. */
export function addressOf({ hostIP }: Pick<PublishSpec, 'hostIP'>): string | undefined {
  return hostIP === '0.0.0.0' || hostIP === '::' ? undefined : hostIP;
}

/** Would both use the same port of the host? */
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

/** `192.0.2.1:8080->80/tcp` */
export function publishText({ hostIP, hostPort, port, protocol }: PublishSpec): string {
  const host = hostIP?.includes(':') ? `[${hostIP}]` : hostIP;
  return `${host === undefined ? '' : `${host}:`}${hostPort}->${port}/${protocol.toLowerCase()}`;
}

/** The first port that the same endpoint publishes twice, with a message. */
export function findRepeated(
  publish: readonly PublishSpec[],
): { readonly index: number; readonly message: string } | undefined {
  const index = publish.findIndex((one, at) => publish.slice(0, at).some((other) => isSamePort(one, other)));
  const found = publish[index];
  return found && { index, message: `${quote(portText(found))} is published twice` };
}
