/**
 * Frames from words: `udp dst=10.2.0.2 dport=53`.
 *
 * What is not named is filled in as a workload behind the port would send it: its
 * own MAC and address, and the MAC of its gateway. On the link to the host the
 * host speaks, to the transit address.
 *
 *   udp tcp ping pong ip   src= dst= sport= dport= bytes= (of payload), of IP ttl= dscp= ecn= id= df wrong-checksum,
 *                          of TCP flags= seq= ack= mss=, of IP proto=
 *   fragment               a part of a UDP datagram: id= at= bytes= of= (its length), first or later
 *   icmp                   type=
 *   icmp-error             type= code= mtu=, quoting the frame that came out last, of this port or of about=HOST/PORT
 *   arp arp-reply          src= dst=
 *   solicit advertise      target= lla=
 *   ethernet               type=
 */
import { isIp4, parseIp, parseMac } from '../../src/flow/types.ts';
import { concat, setU16, setU32 } from '../../src/wire/bytes.ts';
import { ETH_HEADER_BYTES } from '../../src/wire/ethernet.ts';
import { buildEchoBody, buildIcmp4, buildIcmp6, ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY } from '../../src/wire/icmp.ts';
import { IP_ICMP, IP_ICMPV6, IP_UDP } from '../../src/wire/ipv4.ts';
import { buildUdp } from '../../src/wire/l4.ts';
import * as frames from '../support/frames.ts';
import { fragmentOf } from '../support/random-fragments.ts';

/** Who sends by a port. */
export interface Speaker {
  readonly mac: string;
  readonly addresses: readonly string[];
  /** MAC of the router that it sends to, unless it says otherwise. */
  readonly peerMac?: string;
  readonly peerAddresses?: readonly string[];
}

/** The ECN field, by its value (RFC 3168 §5). */
export const ecnNames = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE'];

export function ecnOf(name: string): number {
  const value = ecnNames.indexOf(name);
  if (value < 0) throw new Error(`${name} is no ECN field: accepted are ${ecnNames.join(', ')}`);
  return value;
}

/** Fields of all kinds of frames. */
const accepted =
  'from to src dst sport dport bytes ttl dscp ecn id df wrong-checksum flags seq ack mss proto at of type code mtu about target lla'.split(
    ' ',
  );

/** In a frame with an IPv4 header. */
const IPV4_CHECKSUM = ETH_HEADER_BYTES + 10;

type Fields = Readonly<Partial<Record<string, string>>>;

/**
 * @param words `FIELD=VALUE`, or `FIELD` alone @param latest the last frame that came out of this port, or of `about`
 */
export function buildFrame(
  kind: string,
  words: readonly string[],
  speaker: Speaker,
  latest: (about: string | undefined) => Uint8Array | undefined,
): Uint8Array {
  const fields: Fields = Object.fromEntries(words.map((word) => [word.split('=')[0], word.split('=')[1] ?? '']));
  const unknown = Object.keys(fields).find((name) => !accepted.includes(name));
  if (unknown !== undefined) throw new Error(`${unknown} is no field of a frame: accepted are ${accepted.join(', ')}`);
  const frame = frameOf(kind, fields, speaker, latest);
  return 'wrong-checksum' in fields ? frame.with(IPV4_CHECKSUM, frame[IPV4_CHECKSUM]! ^ 1) : frame;
}

function frameOf(
  kind: string,
  fields: Fields,
  speaker: Speaker,
  latest: (about: string | undefined) => Uint8Array | undefined,
): Uint8Array {
  const ends = endsOf(kind, fields, speaker);
  const number = (name: string, otherwise: number) => Number(fields[name] ?? otherwise);
  const [sport, dport] = [number('sport', 1000), number('dport', 2000)];
  const payload = Uint8Array.from({ length: number('bytes', 0) }, (_, i) => i);
  switch (kind) {
    case 'udp':
      return frames.udp(ends, sport, dport, payload);
    case 'tcp':
      return frames.tcp(ends, {
        sourcePort: sport,
        destinationPort: dport,
        flags: flagsOf(fields['flags'] ?? 'S'),
        sequence: number('seq', 0),
        acknowledgment: number('ack', 0),
        options: fields['mss'] === undefined ? new Uint8Array() : mssOption(Number(fields['mss'])),
        payload,
      });
    case 'ping':
      return frames.echo(ends, number('id', 1), number('seq', 1), payload);
    case 'pong':
      return icmp(
        ends,
        [ICMP_ECHO_REPLY, ICMPV6_ECHO_REPLY],
        0,
        buildEchoBody(number('id', 1), number('seq', 1), payload),
      );
    case 'ip':
      return frames.ip(ends, number('proto', 0), payload);
    case 'fragment':
      return fragment(
        ends,
        fields,
        buildUdp(frames.wireIp(ends.src!), frames.wireIp(ends.dst!), {
          sourcePort: sport,
          destinationPort: dport,
          payload: Uint8Array.from({ length: number('of', 0) - 8 }, (_, i) => i),
        }),
      );
    case 'icmp':
      return icmp(ends, [number('type', 0), number('type', 0)], number('code', 0), new Uint8Array(12));
    case 'icmp-error':
      return icmp(
        ends,
        [number('type', 0), number('type', 0)],
        number('code', 0),
        quote(ends, fields, latest(fields['about'])),
      );
    case 'ethernet':
      return frames.ethernet(ends, number('type', 0), new Uint8Array(46));
    case 'arp':
      return frames.arpRequest(ends);
    case 'arp-reply':
      return frames.arpReply(ends);
    case 'solicit':
      return frames.solicitation({ ...ends, target: fields['target']!, options: linkLayer(1, fields) });
    case 'advertise':
      return frames.advertisement({ ...ends, target: fields['target']!, options: linkLayer(2, fields) });
    default:
      throw new Error(`"${kind}" is no kind of frame`);
  }
}

function endsOf(kind: string, fields: Fields, { mac, addresses, peerMac, peerAddresses = [] }: Speaker): frames.Ends {
  const ofFamily = (list: readonly string[], other: string | undefined) =>
    other === undefined ? undefined : list.find((ip) => isIp4(parseIp(ip)) === isIp4(parseIp(other)));
  const src = fields['src'] ?? ofFamily(addresses, fields['dst']);
  const dst = fields['dst'] ?? ofFamily(peerAddresses, src);
  const dstMac = fields['to'] ?? (kind === 'arp' ? undefined : peerMac);
  const { ttl, dscp = '0', ecn = 'Not-ECT', id = '0' } = fields;
  const tos = (Number(dscp) << 2) | ecnOf(ecn);
  const hops = ttl === undefined ? {} : { ttl: Number(ttl), hopLimit: Number(ttl) };
  return {
    srcMac: fields['from'] ?? mac,
    ...(dstMac !== undefined && { dstMac }),
    ...(src !== undefined && { src }),
    ...(dst !== undefined && { dst }),
    ip4: { ...hops, tos, id: Number(id), dontFragment: 'df' in fields },
    ip6: { ...hops, trafficClass: tos },
  };
}

/** In tcpdump's notation: `S`, `S.` */
function flagsOf(text: string): number {
  return text.split('').reduce((flags, letter) => flags | (1 << 'FSRP.U'.indexOf(letter)), 0);
}

function mssOption(mss: number): Uint8Array {
  const option = Uint8Array.of(2, 4, 0, 0);
  setU16(option, 2, mss);
  return option;
}

/** @param types for IPv4 and for IPv6 */
function icmp(
  ends: frames.Ends,
  [type4, type6]: readonly [number, number],
  code: number,
  body: Uint8Array,
): Uint8Array {
  const [source, destination] = [frames.wireIp(ends.src!), frames.wireIp(ends.dst!)];
  if (source.length === 4) return frames.ip(ends, IP_ICMP, buildIcmp4({ type: type4, code, body }));
  return frames.ip(ends, IP_ICMPV6, buildIcmp6(source, destination, { type: type6, code, body }));
}

function quote({ src }: frames.Ends, { mtu = '0' }: Fields, latest: Uint8Array | undefined): Uint8Array {
  if (!latest) throw new Error('icmp-error: no frame came out of this port yet');
  const rest = new Uint8Array(4);
  if (isIp4(parseIp(src!))) setU16(rest, 2, Number(mtu));
  else setU32(rest, 0, Number(mtu));
  return concat(rest, latest.subarray(ETH_HEADER_BYTES));
}

/** The bytes [at, at + bytes) of a datagram; `of` is its whole length, with its header. */
function fragment(ends: frames.Ends, { id, at, bytes, of, proto }: Fields, datagram: Uint8Array): Uint8Array {
  const part = { at: Number(at), bytes: Number(bytes), more: Number(at) + Number(bytes) < Number(of) };
  return fragmentOf(ends, part, { id: Number(id), protocol: Number(proto ?? IP_UDP), payload: datagram });
}

function linkLayer(type: number, { lla }: Fields): { type: number; data: Uint8Array }[] {
  return lla === undefined ? [] : [{ type, data: parseMac(lla) }];
}
