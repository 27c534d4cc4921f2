/**
 * Named ports of an endpoint, as a container of a Pod has them. A Service that names its target port finds the number here,
 * for each endpoint by itself.
 */
import * as z from 'zod';
import { l4Port } from './publish.ts';
import { quote } from './value.ts';

const LONGEST_PORT_NAME = 15;

/** IANA_SVC_NAME (RFC 6335 section 5.1), in lower case as Kubernetes wants it. */
export const portName = z
  .string()
  .refine(
    (text) => text.length <= LONGEST_PORT_NAME && /^(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/.test(text),
    'a port name has 1 to 15 lower-case letters, digits and single "-", at least one letter, and a letter or digit at both ends',
  );

export const namedPort = z.strictObject({
  name: portName,
  port: l4Port,
  protocol: z.enum(['TCP', 'UDP']).default('TCP'),
});

export type NamedPort = z.output<typeof namedPort>;

/** As given by the user; not checked yet. */
export type NamedPortOptions = z.input<typeof namedPort>;

/** `http=8080`, `dns=53/udp`: what `weft attach --port` takes. */
export function namedPortText({ name, port, protocol }: NamedPort): string {
  return `${name}=${port}${protocol === 'UDP' ? '/udp' : ''}`;
}

/** The first port whose name another one before it has, with a message. */
export function findRepeatedName(
  ports: readonly NamedPort[],
): { readonly index: number; readonly message: string } | undefined {
  const index = ports.findIndex(({ name }, at) => ports.slice(0, at).some((other) => other.name === name));
  const found = ports[index];
  return found && { index, message: `the name ${quote(found.name)} is given twice: each port has a name of its own` };
}
