/** Why the datapath drops frames by itself, without a decision that could be shown: what bounds them, as far as this host knows. */
import { TO_SOCKETS, UPCALLS } from '../forwarding/rates.ts';
import { reasonText, type DropReason } from '../flow/reason.ts';
import type { CountedDropReport, EndpointReport } from '../model/report.ts';

export interface CountedDrop {
  readonly port: string;
  readonly reason: DropReason;
  readonly count: number;
  /** Of the endpoint behind the port, if it is one. */
  readonly endpoint: EndpointReport | undefined;
}

export function reportCountedDrop({ port, reason, count, endpoint }: CountedDrop): CountedDropReport {
  return { port, reason, text: reasonText(reason), count, facts: factsOf(reason, endpoint) };
}

function factsOf(reason: DropReason, endpoint: EndpointReport | undefined): string[] {
  const { rateLimit, mtu, netns, interface: ifname } = endpoint ?? {};
  const limit = (way: 'ingress' | 'egress'): string[] => {
    const rate = rateLimit?.[way];
    const burst = rateLimit?.burst === undefined ? '' : `, with a burst of ${rateLimit.burst}`;
    return rate === undefined ? [] : [`its rate limit for ${way} is ${rate}${burst}`];
  };
  switch (reason) {
    case 'rate_limit_ingress':
      return limit('ingress');
    case 'rate_limit_egress':
      return limit('egress');
    case 'rate_limit_sockets':
      return [
        `a port may send ${TO_SOCKETS.sockets.perSecond} packets a second to DNS and the like, ${TO_SOCKETS.unanswered.perSecond} of UDP before they are answered`,
      ];
    case 'half_open_limit':
      return [
        'a quarter of the connections that an endpoint may have may be half-open, or refused, and as many a second give way to new ones: it floods a service, or its backends do not answer',
      ];
    case 'hook_rate_limit':
      return [
        'a hook has set a rate for what this port sends: `weft connections -o json` shows that of each connection, and `weft trace` what hooks set for new ones',
      ];
    case 'too_big':
      return [
        ...(mtu === undefined ? [] : [`its interface has an MTU of ${mtu}`]),
        'the action `mtu(N)` of its flows in `weft flows` has the limit of each path; senders are told, and should send smaller packets',
      ];
    case 'port_down':
      return ifname === undefined ? [] : [`set it up again: \`ip link set ${ifname} up\` in ${netns}`];
    case 'upcall_rate_limit':
      return [
        `a port may begin ${UPCALLS.port.perSecond} new flows a second, and ${UPCALLS.port.burst} at once; half of that for each sender`,
      ];
    default:
      return ['the datapath drops such frames by itself, before or after any decision'];
  }
}
