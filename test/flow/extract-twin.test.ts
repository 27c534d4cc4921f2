/**
 * extract compared with its naive twin: the same rules, written with the parsers of `wire` and field
 * by field, on random and broken frames. WEFT_SEED repeats a run.
 */
import t from 'tap';
import { extract, type Extracted } from '../../src/flow/extract.ts';
import { fields, type FieldName } from '../../src/flow/fields.ts';
import { emptyKey, writeNumber } from '../../src/flow/key.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { parseArp } from '../../src/wire/arp.ts';
import { getU16 } from '../../src/wire/bytes.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIcmp } from '../../src/wire/icmp.ts';
import { parseIpv4 } from '../../src/wire/ipv4.ts';
import { parseIpv6 } from '../../src/wire/ipv6.ts';
import { parseTcp } from '../../src/wire/l4.ts';
import { parseNdOptions } from '../../src/wire/nd.ts';
import { mutate, randomFrame } from '../support/random-frames.ts';
import { Random } from '../support/random.ts';

const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

class Refused extends Error {
  readonly reason: DropReason;
  constructor(reason: DropReason) {
    super(reason);
    this.reason = reason;
  }
}

function need<T>(value: T | undefined | false, reason: DropReason): T {
  if (value === undefined || value === false) throw new Refused(reason);
  return value;
}

class Twin {
  readonly key = emptyKey();
  #start = 0;
  #l4 = 0;

  number(name: FieldName, value: number): void {
    writeNumber(this.key, fields[name], value);
  }

  bytes(name: FieldName, value: Uint8Array): void {
    const isIp4 = fields[name].kind === 'ip' && value.length === 4;
    const mapped = isIp4 ? [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...value] : value;
    this.key.set(mapped, fields[name].offset);
  }

  extract(frame: Uint8Array): Extracted {
    try {
      this.#start = frame.byteOffset;
      return { ok: true, lengthBytes: this.#frame(frame), l4Offset: this.#l4 };
    } catch (error) {
      if (error instanceof Refused) return { ok: false, reason: error.reason };
      throw error;
    }
  }

  #frame(frame: Uint8Array): number {
    const ethernet = need(parseEthernet(frame), 'frame_too_short');
    need(frame.length <= 65553, 'frame_too_long');
    this.bytes('eth_dst', ethernet.destination);
    this.bytes('eth_src', ethernet.source);
    this.number('eth_type', ethernet.type < 0x600 ? 0x5ff : ethernet.type);
    if (ethernet.vlan) this.number('vlan_tci', ethernet.vlan.tci | 0x1000);
    const { payload } = ethernet;
    const headerBytes = frame.length - payload.length;
    switch (ethernet.type) {
      case 0x0806:
        this.#arp(payload);
        return frame.length;
      case 0x0800:
        this.#ipv4(payload);
        return headerBytes + getU16(payload, 2);
      case 0x86dd:
        this.#ipv6(payload);
        return headerBytes + 40 + getU16(payload, 4);
      default:
        return frame.length;
    }
  }

  #arp(payload: Uint8Array): void {
    const arp = need(parseArp(payload), 'arp_malformed');
    this.number('ip_proto', arp.operation < 256 ? arp.operation : 0);
    this.bytes('nd_lla', arp.senderMac);
    this.bytes('ip_src', arp.senderIp);
    this.bytes('ip_dst', arp.targetIp);
  }

  #ipv4(payload: Uint8Array): void {
    const ip = need(parseIpv4(payload), 'ipv4_malformed');
    this.number('ip_tos', ip.tos);
    this.number('ip_ttl', ip.ttl);
    this.bytes('ip_src', ip.source);
    this.bytes('ip_dst', ip.destination);
    const { fragmentOffset, moreFragments, payload: part, protocol } = ip;
    const headerBytes = 20 + ip.options.length;
    const frag = fragment(protocol, fragmentOffset, part.length, moreFragments, headerBytes);
    this.#upper(protocol, part, frag, false, ip.ttl);
  }

  #ipv6(payload: Uint8Array): void {
    const ip = need(parseIpv6(payload), 'ipv6_malformed');
    need(!isMapped(ip.source) && !isMapped(ip.destination), 'ipv4_mapped');
    this.number('ip_tos', ip.trafficClass);
    this.number('ip_ttl', ip.hopLimit);
    this.bytes('ip_src', ip.source);
    this.bytes('ip_dst', ip.destination);
    let { nextHeader, payload: rest } = ip;
    let frag = 0;
    const walked: number[] = [];
    for (let count = 1; [0, 43, 44, 51, 60, 135].includes(nextHeader) && frag !== 2; count++) {
      need(count <= 8 && !(nextHeader === 0 && count > 1), 'ipv6_ext_headers');
      need(nextHeader !== 44 || !walked.includes(44), 'ipv6_ext_headers');
      walked.push(nextHeader);
      need(rest.length >= 8, frag === 1 ? 'fragment_tiny' : 'ipv6_ext_headers');
      let size = 8 + 8 * rest[1]!;
      if (nextHeader === 51) size = 8 + 4 * rest[1]!;
      if (nextHeader === 44) {
        size = 8;
        const field = getU16(rest, 2);
        const before = ip.payload.length - rest.length;
        frag = fragment(rest[0]!, field - (field % 8), rest.length - 8, field % 2 === 1, before);
      }
      need(size <= rest.length, frag === 1 ? 'fragment_tiny' : 'ipv6_ext_headers');
      nextHeader = rest[0]!;
      rest = rest.subarray(size);
    }
    this.#upper(nextHeader, rest, frag, true, ip.hopLimit);
  }

  #upper(protocol: number, bytes: Uint8Array, frag: number, v6: boolean, hopLimit: number): void {
    this.number('ip_proto', protocol);
    this.number('ip_frag', frag);
    if (frag === 2) return;
    this.#l4 = bytes.byteOffset - this.#start;
    const truncated = frag === 1 ? 'fragment_tiny' : 'l4_truncated';
    if (protocol === 6) need(parseTcp(bytes), truncated);
    if (protocol === 17) need(bytes.length >= 8, truncated);
    if (protocol === 132) need(bytes.length >= 12, truncated);
    if ([6, 17, 132].includes(protocol)) {
      this.number('l4_src', getU16(bytes, 0));
      this.number('l4_dst', getU16(bytes, 2));
    }
    if (protocol !== (v6 ? 58 : 1)) return;
    const icmp = need(parseIcmp(bytes), truncated);
    if (!v6 || icmp.type === 128 || icmp.type === 129) need(bytes.length >= 8, truncated);
    this.number('l4_src', icmp.type);
    this.number('l4_dst', icmp.code);
    if ((v6 ? [128, 129] : [0, 8]).includes(icmp.type)) this.number('icmp_id', getU16(icmp.body, 0));
    if (v6 && icmp.type >= 133 && icmp.type <= 137) {
      need(hopLimit === 255 && icmp.code === 0 && frag === 0, 'nd_malformed');
      this.#neighbor(icmp.type, icmp.body);
    }
  }

  #neighbor(type: number, body: Uint8Array): void {
    const optionsAt = { 133: 4, 134: 12, 135: 20, 136: 20, 137: 36 }[type]!;
    need(body.length >= optionsAt, 'nd_malformed');
    if (type === 135 || type === 136) {
      const target = body.subarray(4, 20);
      need(target[0] !== 255 && !isMapped(target), 'nd_malformed');
      this.bytes('nd_target', target);
    }
    const options = need(parseNdOptions(body.subarray(optionsAt)), 'nd_malformed');
    const lla = options.filter((one) => one.type === 1 || one.type === 2);
    if (lla.length === 0) return;
    const [{ type: kind, data }] = lla as [(typeof lla)[number]];
    const source = this.key.subarray(fields.ip_src.offset, fields.ip_src.offset + 16);
    need(lla.length === 1 && kind === ([133, 134, 135].includes(type) ? 1 : 2), 'nd_malformed');
    need(data.length === 6 && data[0]! % 2 === 0 && data.some((byte) => byte > 0), 'nd_malformed');
    need(kind === 2 || source.some((byte) => byte > 0), 'nd_malformed');
    this.bytes('nd_lla', data);
  }
}

function isMapped(ip: Uint8Array): boolean {
  return Buffer.from(ip).toString('hex', 0, 12) === '00000000000000000000ffff';
}

/** 0: none, 1: the first, 2: a later one. */
function fragment(protocol: number, offset: number, bytes: number, more: boolean, headerBytes: number): number {
  if (offset === 0 && !more) return 0;
  need(bytes > 0 && offset + bytes + headerBytes <= 65535 && (!more || bytes % 8 === 0), 'fragment_malformed');
  need(offset === 0 || offset >= ({ 6: 20, 132: 12 }[protocol] ?? 8), 'fragment_tiny');
  return offset === 0 ? 1 : 2;
}

t.test(`100,000 frames (WEFT_SEED=${seed})`, { timeout: 60_000 }, async (t) => {
  const random = new Random(seed);
  const outcomes = new Map<string, number>();
  const key = emptyKey();
  for (let i = 0; i < 100_000; i++) {
    const whole = randomFrame(random);
    const frame = random.chance(0.5) ? mutate(whole, random) : whole;
    const twin = new Twin();
    const expected = twin.extract(frame);
    const extracted = extract(frame, key);
    const same =
      JSON.stringify(extracted) === JSON.stringify(expected) && (!extracted.ok || Buffer.compare(key, twin.key) === 0);
    if (!same) {
      const hex = Buffer.from(frame).toString('hex');
      t.fail(`frame ${i} ${hex}: ${JSON.stringify(extracted)} is not ${JSON.stringify(expected)}`);
      t.same(key, twin.key);
      return;
    }
    const outcome = extracted.ok ? 'ok' : extracted.reason;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  for (const reason of [
    'ok',
    'frame_too_short',
    'arp_malformed',
    'ipv4_malformed',
    'ipv6_malformed',
    'ipv6_ext_headers',
    'l4_truncated',
    'nd_malformed',
    'fragment_malformed',
    'fragment_tiny',
    'ipv4_mapped',
  ]) {
    t.ok((outcomes.get(reason) ?? 0) > 20, `${reason}: ${outcomes.get(reason)}`);
  }
});
