/** Ports in policies. Unlike those of Services, they may be of SCTP, and a name means that of the destination. */
import * as z from 'zod';
import { foreignObject } from './foreign.ts';
import { portName } from '../named-port.ts';
import { l4Port } from '../publish.ts';

export const policyProtocol = z.enum(['TCP', 'UDP', 'SCTP']);
export type PolicyProtocol = z.output<typeof policyProtocol>;

/** A port of a NetworkPolicy. Without a port, it means all of its protocol. */
export const policyPort = foreignObject({
  protocol: policyProtocol.nullable().optional(),
  port: z.union([l4Port, portName], { error: 'a port of 1 to 65535, or the name of one' }).nullable().optional(),
  endPort: l4Port.nullable().optional(),
}).superRefine(({ port, endPort }, context) => {
  if (endPort === undefined || endPort === null) return;
  const refuse = (message: string): void => {
    context.addIssue({ code: 'custom', path: ['endPort'], input: endPort, message });
  };
  if (port === undefined || port === null) refuse('may not be specified when `port` is not specified');
  else if (typeof port === 'string') refuse('may not be specified when `port` is non-numeric');
  else if (endPort < port) refuse(`must be greater than or equal to \`port\`, which is ${port}`);
});

export type PolicyPortSpec = z.output<typeof policyPort>;
