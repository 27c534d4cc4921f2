/** Network: one layer-2 domain with its subnets. */
import * as z from 'zod';
import { addressValue, isIp4, isWithin, parseRange, parseSubnet, usableRange, type AddressRange } from '../address.ts';
import { PROBE_VNI } from '../../wire/probe.ts';
import { metadata } from '../resource.ts';
import { cidr, ipRange, name, prefix, quote, unicastAddress } from '../value.ts';
import { defineKind, WEFT_V1 } from './kind.ts';

export const vniSchema = z
  .int({ error: 'a VNI is a whole number, 1 to 16777214' })
  .min(1, 'a VNI is 1 to 16777214')
  .max(PROBE_VNI - 1, 'a VNI is 1 to 16777214 (16777215 is that of weft’s own probes)');

const mtuSchema = z
  .int({ error: 'an MTU is a whole number, 576 to 9000' })
  .min(576, 'an MTU is 576 to 9000 (1280 and up with IPv6)')
  .max(9000, 'an MTU is 576 to 9000');

/** The smallest MTU of a link that carries IPv6 (RFC 8200 section 5). */
export const SMALLEST_IPV6_MTU = 1280;

/** How many next hops may share the flows of one route. */
const MOST_HOPS = 16;

/** A route out of a network: `network`, or `via` (then `network` says where the next hops are), or a `type`. */
const routeSpec = z.strictObject({
  to: prefix,
  /** The network that contains the destinations, or the next hops. With `via`, it is the network itself by default. */
  network: name.optional(),
  /** The next hops. Several share the flows. */
  via: z
    .array(unicastAddress)
    .min(1, 'via has at least one next hop')
    .max(MOST_HOPS, `via has at most ${MOST_HOPS} next hops`)
    .optional(),
  /** Drops the packets: silently, or with the ICMP error of that name. */
  type: z.enum(['blackhole', 'unreachable', 'prohibit']).optional(),
});

export const networkSpec = z
  .strictObject({
    /** At most one IPv4 and one IPv6 subnet. */
    subnets: z
      .array(cidr)
      .min(1, 'a network has at least one subnet')
      .max(2, 'a network has at most one IPv4 and one IPv6 subnet'),
    /** If it is not given, weft chooses one, provided that no peers are configured. */
    vni: vniSchema.optional(),
    /** The MTU of the containers' interfaces. By default whatever the underlay can carry. */
    mtu: mtuSchema.optional(),
    /** FIRST-LAST, this host's own share of a subnet: weft chooses addresses only from it. */
    ranges: z.array(ipRange).max(2, 'a network has at most one range a subnet').default([]),
    /** Routes to other networks, which the network's gateway follows. */
    routes: z.array(routeSpec).max(1024, 'a network has at most 1024 routes').default([]),
    /** True if its containers may reach destinations beyond weft and publish ports. Each host must allow this too. */
    outside: z.boolean().default(false),
  })
  .superRefine(({ subnets, mtu, ranges, routes }, context) => {
    const refuse = (path: PropertyKey[], input: unknown, message: string): void => {
      context.addIssue({ code: 'custom', path, input, message });
    };
    const parsed = subnets.map(parseSubnet);
    const families = parsed.map((subnet) => isIp4(subnet.first));
    for (const [index, isV4] of families.entries()) {
      if (families.indexOf(isV4) < index) {
        const text = subnets[index] ?? '';
        refuse(
          ['subnets', index],
          text,
          `${quote(text)} is the second ${isV4 ? 'IPv4' : 'IPv6'} subnet: a network has at most one IPv4 and one IPv6 subnet`,
        );
      }
    }
    if (mtu !== undefined && mtu < SMALLEST_IPV6_MTU && families.includes(false)) {
      refuse(['mtu'], mtu, `with an IPv6 subnet an MTU is ${SMALLEST_IPV6_MTU} to 9000`);
    }
    refineRoutes(parsed, routes, refuse);
    const shared = new Set<number>();
    for (const [index, text] of ranges.entries()) {
      const range = parseRange(text);
      const of = parsed.findIndex((subnet) => isWithin(range, subnet));
      const subnet = parsed[of];
      if (!subnet) {
        refuse(['ranges', index], text, `${quote(text)} is not within a subnet of the network (${subnets.join(', ')})`);
        continue;
      }
      if (shared.has(of)) {
        refuse(
          ['ranges', index],
          text,
          `${quote(text)} is the second range of ${subnets[of]}: a subnet has at most one`,
        );
      }
      shared.add(of);
      const usable = usableRange(subnet, range);
      if (usable.first > usable.last) {
        refuse(
          ['ranges', index],
          text,
          `${quote(text)} has no address for a container, only reserved ones of ${subnets[of]}`,
        );
      }
    }
  });

/** Checks the routes of a network, for `.superRefine`. */
function refineRoutes(
  subnets: readonly AddressRange[],
  routes: readonly z.output<typeof routeSpec>[],
  refuse: (path: PropertyKey[], input: unknown, message: string) => void,
): void {
  for (const [index, { to, network, via, type }] of routes.entries()) {
    const at = (...path: PropertyKey[]): PropertyKey[] => ['routes', index, ...path];
    const destination = parseSubnet(to);
    const isV4 = isIp4(destination.first);
    if (routes.findIndex((route) => route.to === to) < index) refuse(at('to'), to, `${quote(to)} has a route already`);
    if (subnets.some((subnet) => isWithin(destination, subnet))) {
      refuse(at('to'), to, `${quote(to)} is within a subnet of the network itself`);
    }
    const given = Object.entries({ network, via }).flatMap(([field, value]) => (value === undefined ? [] : [field]));
    if (type !== undefined && given.length > 0) {
      refuse(at('type'), type, `a ${type} route has no ${given.join(' and no ')}`);
    }
    if (type === undefined && given.length === 0) {
      refuse(at(), to, 'give the network that it leads to, or the next hops (via), or a type');
    }
    for (const [hop, address] of (via ?? []).entries()) {
      const value = addressValue(address);
      const own = network === undefined && !subnets.some(({ first, last }) => first <= value && value <= last);
      if (isIp4(value) !== isV4) {
        refuse(at('via', hop), address, `${quote(address)} is not of the family of ${to}`);
      } else if (own) {
        refuse(
          at('via', hop),
          address,
          `${quote(address)} is outside the subnets of the network: give the network that it is in`,
        );
      }
    }
  }
}

const networkSchema = z.strictObject({
  apiVersion: z.literal(WEFT_V1),
  kind: z.literal('Network'),
  metadata,
  spec: networkSpec,
});

/** What weft allots to a network and stores with it. */
export const networkAllotted = z.object({ vni: vniSchema, mtu: z.int().positive() });

export type RouteSpec = z.output<typeof routeSpec>;
export type NetworkResource = z.output<typeof networkSchema>;

export const networkKind = defineKind({
  kind: 'Network',
  plural: 'networks',
  shortNames: ['net'],
  apiVersion: WEFT_V1,
  isNamespaced: false,
  schema: networkSchema,
  // Routes may lead to networks that are declared later.
  references: () => [],
  columns: {
    heads: ['SUBNETS', 'VNI', 'MTU'],
    cells: ({ spec }) => [spec.subnets.join(','), spec.vni ?? '', spec.mtu ?? ''],
  },
  wideColumns: {
    heads: ['OUTSIDE', 'RANGES', 'ROUTES'],
    cells: ({ spec }) => [spec.outside ? 'yes' : '', spec.ranges.join(','), spec.routes.map(({ to }) => to).join(',')],
  },
});
