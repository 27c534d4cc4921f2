/**
 * FlowView: the only way in which a decision sees a flow.
 *
 * Reading a field through a getter sets that field in the mask, so a cached decision can
 * never be wider than the fields that it was made from (the kind of bug in CVE-2020-35498
 * and CVE-2023-1668). A question that needs only the beginning of a field (`isOneOf`) uses
 * only that, so a sender that puts another wrong address into each frame is refused by a few
 * cached flows. `consult` does the same for objects: a decision carries the names of all
 * table entries that it looked up, found or not, and is made again when one of them changes.
 *
 * A decision may also look at what lies behind the fields, in the frame itself. Such a
 * decision holds for this frame only, and is never cached.
 *
 * A view belongs to one decision and is not kept. Everything that it returns may be kept.
 */
import { getU16, getU32 } from '../wire/bytes.ts';
import { checksum } from '../wire/checksum.ts';
import { ETH_HEADER_BYTES, ETH_IPV4, VLAN_TAG_BYTES } from '../wire/ethernet.ts';
import { IPV4_DF } from '../wire/ipv4.ts';
import { answersTcp, beginsTcp, TCP_ACKNOWLEDGMENT, TCP_FLAGS, TCP_RST, TCP_SEQUENCE } from '../wire/l4.ts';
import { ip6L4Offset } from './extract.ts';
import { FRAG_LATER, fields, type Field, type FieldName } from './fields.ts';
import { formatPrefix, maskOf, readBytes, readNumber, type FlowKey, type FlowMask, type FieldPrefix } from './key.ts';
import { readQuoted, type Quoted } from './quoted.ts';
import type { ValueSet } from './value-set.ts';

/** Offset of the flags in an IPv4 header, in bytes. */
const IPV4_FLAGS = 6;
/** Header of an ICMP error, in front of the packet that it quotes. */
const ICMP_ERROR_BYTES = 8;

/**
 * Fields in the order in which they were read, each once. Equal lists are one object: a
 * decision keeps a list for each stage, and there are only as many different lists as there
 * are paths through the stages.
 */
class ReadList {
  readonly names: readonly FieldName[];
  readonly #used: number;
  readonly #longer: ReadList[] = [];

  constructor(names: readonly FieldName[], used: number) {
    this.names = names;
    this.#used = used;
  }

  with({ name, number }: Field): ReadList {
    const bit = 1 << number;
    if (this.#used & bit) return this;
    return (this.#longer[number] ??= new ReadList([...this.names, name], this.#used | bit));
  }
}

const nothingRead = new ReadList([], 0);

export class FlowView {
  /** Without duplicates. */
  readonly consulted: string[] = [];
  /** What `consultUntilOpen` has noted. */
  readonly consultedUntilOpen: string[] = [];
  readonly #key: FlowKey;
  readonly #head: Uint8Array | undefined;
  readonly #packetBytes: number;
  #used = 0;
  /** Fields of which only the first bytes are used. */
  readonly #prefixes: FieldPrefix[] = [];
  /** By number of the field: the copies that were returned. */
  readonly #copies: Uint8Array[] = [];
  #read = nothingRead;
  #isOfOneFrame = false;
  #isOfOneConnection = false;

  /**
   * @param head the beginning of the frame, from its Ethernet header on, if there is a frame
   * @param packetBytes size of the largest packet that it goes out as, from the IP header on, if the size
   * matters
   */
  constructor(key: FlowKey, head?: Uint8Array, packetBytes = 0) {
    this.#key = key;
    this.#head = head;
    this.#packetBytes = packetBytes;
  }

  /** True if the next frame with the same key may get another decision. */
  get isOfOneFrame(): boolean {
    return this.#isOfOneFrame;
  }

  /** The decision depends on more than key and tables, so it holds for this frame only. */
  forThisFrame(): void {
    this.#isOfOneFrame = true;
  }

  /** True if another connection of the same client to the same port of a service may get another decision. */
  get isOfOneConnection(): boolean {
    return this.#isOfOneConnection;
  }

  /** The decision depends on what tells such connections apart: the source port, or the backend that was chosen. */
  forThisConnection(): void {
    this.#isOfOneConnection = true;
  }

  /** Another view of the same flow. Nothing that is read and consulted there is what this decision depends on. */
  aside(): FlowView {
    return new FlowView(this.#key, this.#head, this.#packetBytes);
  }

  /**
   * True if the checksum of its IPv4 header is correct. If there is no frame, the answer is yes: a cached flow relies
   * on the datapath, which refuses to do this to a packet with a wrong checksum.
   */
  hasRightIpv4Header(): boolean {
    if (!this.#head) return true;
    const header = this.#head.subarray(this.#l3());
    const isRight = checksum(header.subarray(0, (header[0]! & 15) * 4)) === 0;
    if (!isRight) this.#isOfOneFrame = true;
    return isRight;
  }

  /** True if the packet of this frame has more bytes than this. The decision is then for this frame only. */
  isLargerThan(bytes: number): boolean {
    const isLarger = this.#packetBytes > bytes;
    if (isLarger) this.#isOfOneFrame = true;
    return isLarger;
  }

  /**
   * True if routers may fragment this IPv4 packet, that is, if DF is clear. If there is no frame, the answer is yes.
   */
  mayBeFragmented(): boolean {
    this.#isOfOneFrame = true;
    return !this.#head || (getU16(this.#head, this.#l3() + IPV4_FLAGS) & IPV4_DF) === 0;
  }

  /**
   * True if this TCP segment begins a connection; undefined if that is not known, as when there is no frame. The next frame
   * with the same key may be another one: who decides by it also calls `forThisFrame`, unless the datapath tells them apart.
   */
  beginsTcp(): boolean | undefined {
    const tcp = this.#tcp();
    return tcp && beginsTcp(tcp[TCP_FLAGS]!);
  }

  /** True if this frame is a TCP reset. Undefined if its header is not there. */
  resetsTcp(): boolean | undefined {
    const tcp = this.#tcp();
    return tcp && (tcp[TCP_FLAGS]! & TCP_RST) !== 0;
  }

  /** The same for a segment that answers the SYN after which `end` is to be acknowledged. */
  answersTcp(end: number): boolean | undefined {
    const tcp = this.#tcp();
    return tcp && answersTcp(tcp[TCP_FLAGS]!, getU32(tcp, TCP_ACKNOWLEDGMENT), end);
  }

  /** From the TCP header of this frame on, if it is there. */
  #tcp(): Uint8Array | undefined {
    if (!this.#head || this.number('ip_frag') === FRAG_LATER) return undefined;
    const l3 = this.#l3();
    const v4 = this.number('eth_type') === ETH_IPV4;
    const tcp = this.#head.subarray(v4 ? l3 + (this.#head[l3]! & 15) * 4 : ip6L4Offset(this.#head, l3));
    return tcp.length > TCP_FLAGS ? tcp : undefined;
  }

  /** The sequence number of this TCP segment. */
  tcpSequence(): number | undefined {
    const tcp = this.#tcp();
    return tcp && getU32(tcp, TCP_SEQUENCE);
  }

  /** The packet that this ICMP error quotes, if it can be read. */
  quoted(): Quoted | undefined {
    this.#isOfOneFrame = true;
    const icmp = this.icmp();
    return icmp && readQuoted(icmp.subarray(ICMP_ERROR_BYTES), this.number('eth_type') === ETH_IPV4);
  }

  /** This ICMP message, as far as it is there. */
  icmp(): Uint8Array | undefined {
    if (!this.#head || this.number('ip_frag') === FRAG_LATER) return undefined;
    const v4 = this.number('eth_type') === ETH_IPV4;
    const l3 = this.#l3();
    return this.#head.subarray(v4 ? l3 + (this.#head[l3]! & 15) * 4 : ip6L4Offset(this.#head, l3));
  }

  /** The fields that were read. Shared by all decisions that read the same fields: do not write to it. */
  get mask(): FlowMask {
    if (this.#prefixes.length === 0) return maskOf(this.#used);
    const prefixes = this.#prefixes.filter(({ field }) => !(this.#used & (1 << field.number)));
    return maskOf(
      this.#used,
      prefixes.sort((a, b) => a.field.number - b.field.number),
    );
  }

  /** The value of a numeric field (ports, EtherType, protocol, …). */
  number(name: FieldName): number {
    return readNumber(this.#key, this.#use(name));
  }

  /** The bytes of an address field: a copy, the same one each time. */
  bytes(name: FieldName): Uint8Array {
    const { offset, size, number } = this.#use(name);
    return (this.#copies[number] ??= this.#copy(offset, size));
  }

  /**
   * True if the field is one of `values`, each of the field's length. If so, all of the field is used. If not, only the
   * bytes up to the first one that differs from all values are used: then at most 255 flows for each byte and value
   * cover everything else that may be there.
   */
  isOneOf(name: FieldName, values: Iterable<Uint8Array>): boolean {
    return this.whichOf(name, values) >= 0;
  }

  /** The same question: which value it is, counted from 0; -1 if it is none of them. */
  whichOf(name: FieldName, values: Iterable<Uint8Array>): number {
    const field = fields[name];
    let bytes = 0;
    let at = 0;
    for (const value of values) {
      let same = 0;
      while (same < field.size && this.#key[field.offset + same] === value[same]) same++;
      if (same === field.size) {
        this.#use(name);
        return at;
      }
      bytes = Math.max(bytes, same + 1);
      at++;
    }
    this.#useFirst(field, bytes);
    return -1;
  }

  /** The same question as `isOneOf`, for values that need not be compared one by one. */
  isIn(name: FieldName, values: Pick<ValueSet, 'isEmpty' | 'sharedBytes'>): boolean {
    const field = fields[name];
    const shared = values.sharedBytes(this.#key, field.offset);
    if (shared === field.size) this.#use(name);
    else if (!values.isEmpty) this.#useFirst(field, shared + 1);
    return shared === field.size;
  }

  /** A copy of the first bytes of a field; no more of the field is used. */
  first(name: FieldName, bytes: number): Uint8Array {
    const field = fields[name];
    this.#useFirst(field, bytes);
    return this.#copy(field.offset, bytes);
  }

  /** A field as far as it was used, to explain a refusal: all of it, or `10.9.0.0/16`. */
  used(name: FieldName): Uint8Array | number | string {
    const field = fields[name];
    const isWhole = (this.#used & (1 << field.number)) !== 0;
    const bytes = isWhole ? field.size : (this.#prefixes.find((prefix) => prefix.field === field)?.bytes ?? 0);
    if (bytes < field.size) return formatPrefix({ field, bytes }, this.#key);
    return field.kind === 'mac' || field.kind === 'ip'
      ? readBytes(this.#key, field).slice()
      : readNumber(this.#key, field);
  }

  /** Records that the decision depends on a table entry, present or absent. */
  consult(object: string): void {
    if (!this.consulted.includes(object)) this.consulted.push(object);
  }

  /**
   * The same for an entry that a choice for a new connection depends on. Once the connection is open, the choice stays as
   * it is, and decisions about its packets do not depend on the entry.
   */
  consultUntilOpen(object: string): void {
    if (!this.consultedUntilOpen.includes(object)) this.consultedUntilOpen.push(object);
  }

  /** The fields read since the last call: those that one stage used, for `weft trace`. */
  takeRead(): readonly FieldName[] {
    const { names } = this.#read;
    this.#read = nothingRead;
    return names;
  }

  #l3(): number {
    return ETH_HEADER_BYTES + (this.number('vlan_tci') === 0 ? 0 : VLAN_TAG_BYTES);
  }

  /** Quicker than `slice` for so few bytes. */
  #copy(offset: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) bytes[i] = this.#key[offset + i]!;
    return bytes;
  }

  #useFirst(field: Field, bytes: number): void {
    if (bytes === 0) return;
    if (bytes === field.size) return void this.#use(field.name);
    this.#read = this.#read.with(field);
    const at = this.#prefixes.findIndex((prefix) => prefix.field === field);
    if (at < 0) this.#prefixes.push({ field, bytes });
    else if (this.#prefixes[at]!.bytes < bytes) this.#prefixes[at] = { field, bytes };
  }

  #use(name: FieldName): Field {
    const field = fields[name];
    this.#used |= 1 << field.number;
    this.#read = this.#read.with(field);
    return field;
  }
}
