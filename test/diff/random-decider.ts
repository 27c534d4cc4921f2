/**
 * A decider that makes no sense and reaches every corner of the contract: random masks and actions;
 * answers at once, late, twice or never; flows that are replaced and deleted.
 *
 * Half of the deciders use one mask for each key, so that no two flows cover one frame, as in a real
 * pipeline. The others let flows overlap, in which case the oldest mask must win.
 */
import type { Upcall, UpcallToken } from '../../src/datapath/datapath.ts';
import { NAT_BY_TUPLE, type Action } from '../../src/flow/action.ts';
import type { BalancingTable } from '../../src/flow/balancing.ts';
import { turned, type Place, type Tuple } from '../../src/flow/connection.ts';
import { FIRST_FREE_OWNER, type ConnectionStore, type GivenUp } from '../../src/flow/connection-store.ts';
import { fieldList, fields, KEY_BYTES, type FieldName } from '../../src/flow/fields.ts';
import { readNumber, type FlowKey, type FlowMask } from '../../src/flow/key.ts';
import { dropReasons } from '../../src/flow/reason.ts';
import { refusalNumbers, refusalOf, type RefusalAnswer } from '../../src/flow/refusal.ts';
import { treatmentOf, type Treatment } from '../../src/flow/treatment.ts';
import { isIp4, parseIp, type FlowId, type PortNo, type Vni } from '../../src/flow/types.ts';
import { FlowView } from '../../src/flow/view.ts';
import { inTurn, type Random } from '../support/random.ts';
import type { Decider, DeciderContext } from './differential.ts';

const vteps = ['192.0.2.2', '192.0.2.3', '2001:db8::2'].map(parseIp);
const places = [0, 1, 100] as Place[];
/** The addresses that ICMP errors come from. */
const gateways = ['10.0.0.254', '10.0.0.254', 'fd00::fe'].map(parseIp);
/** If masks do not overlap, these fields are in each of them and select it. */
const choosing: readonly FieldName[] = ['in_port', 'eth_type', 'ip_proto'];

interface Known {
  readonly id: FlowId;
  readonly key: FlowKey;
  readonly mask: FlowMask;
}

export class RandomDecider implements Decider {
  readonly socketsPort = 4;
  readonly #context: DeciderContext;
  readonly #lateness: number;
  readonly #overlapping: boolean;
  readonly #masks: readonly FlowMask[];
  readonly #flows: Known[] = [];
  readonly #late: UpcallToken[] = [];
  readonly #used: UpcallToken[] = [];
  #lastId = 0;
  #slot = 0;

  constructor(context: DeciderContext) {
    this.#context = context;
    const { random, turn } = context;
    this.#lateness = inTurn([0, 0.1, 0.5, 0.98], turn);
    this.#overlapping = inTurn([false, true], turn, 4);
    this.#masks = Array.from({ length: inTurn([3, 30, 100], turn) }, () => randomMask(random));
  }

  upcalls(batch: readonly Upcall[]): void {
    const { random } = this.#context;
    for (const { token, key, head } of batch) {
      if (random.chance(0.3)) this.#connect(key, head);
      if (random.chance(0.8)) this.#put(key);
      if (random.chance(this.#lateness)) this.#late.push(token);
      else this.#answer(token, this.#actions());
    }
  }

  step(random: Random): void {
    const flow = this.#flows.length > 0 ? random.pick(this.#flows) : undefined;
    switch (random.int(9)) {
      case 4:
        this.#endConnections(random);
        break;
      case 0:
        if (flow) this.#context.dp().flowDel(flow.id);
        break;
      case 1:
        // The id may have gone in the meantime. In that case this is a new flow, or takes the place of another.
        if (flow) this.#note(flow.id, flow);
        break;
      case 2:
        if (flow) this.#note(++this.#lastId as FlowId, flow);
        break;
      case 3:
        if (this.#used.length > 0) this.#context.dp().execute(random.pick(this.#used), this.#actions());
        break;
      default:
        for (let count = random.int(8); count > 0 && this.#late.length > 0; count--) {
          const [token] = this.#late.splice(random.int(this.#late.length), 1);
          this.#answer(token!, this.#actions());
        }
    }
  }

  /** Opens a connection that the frame, or the packet that it quotes, may belong to. */
  #connect(key: FlowKey, head: Uint8Array): void {
    const { random } = this.#context;
    const of = new FlowView(key, head);
    const protocol = of.number('ip_proto');
    const isEcho = protocol === 1 || protocol === 58;
    const quoted = random.chance(0.5) ? of.quoted() : undefined;
    const ports = (): Pick<Tuple, 'sourcePort' | 'destinationPort'> => {
      const sourcePort = random.int(65_536);
      return { sourcePort, destinationPort: isEcho ? sourcePort : random.int(65_536) };
    };
    const seen: Tuple = quoted?.tuple ?? { source: of.bytes('ip_src'), destination: of.bytes('ip_dst'), ...ports() };
    const other: Tuple = {
      source: random.chance(0.5) ? seen.source : randomIp(seen.source, random),
      destination: random.chance(0.5) ? seen.destination : randomIp(seen.destination, random),
      ...ports(),
    };
    const ways: readonly [Tuple, Tuple][] = [
      [seen, other],
      [other, seen],
      [turned(seen), turned(other)],
    ];
    const [original, translated] = random.pick(ways);
    const kind = random.pick(['tracked', 'translated', 'translated', 'translated'] as const);
    const slot = this.#connections.open(
      {
        kind,
        places: [random.pick(places), random.pick(places)],
        protocol: quoted?.protocol ?? protocol,
        original,
        translated: kind === 'tracked' ? original : translated,
        ...(random.chance(0.3) && { pin: 1 + random.int(4), table: 1 + random.int(6) }),
        ...randomTreatment(random),
      },
      owner(random),
      this.#context.clock(),
      random.chance(0.5) ? [this.#any(random)] : [],
    );
    if (slot >= 0) this.#slot = slot;
    this.#context.note(`connection ${slot} opened`);
  }

  #endConnections(random: Random): void {
    const store = this.#connections;
    if (random.chance(0.5)) store.close(random.int(store.records.count));
    const slot = random.int(store.records.count);
    if (random.chance(0.5) && store.records.kind(slot) === 'translated') store.end(slot, this.#context.clock());
    if (random.chance(0.3)) store.claim(slot, store.records.generation(slot));
    for (const slot of store.expire(this.#context.clock())) store.close(slot);
    const owners = [FIRST_FREE_OWNER, FIRST_FREE_OWNER + 1];
    const balanced = [1, 2, 3, 4].map((pin) => `${store.balancedTo(pin)} ${store.balancedBy(pin)}`).join(', ');
    const room = JSON.stringify(store.room(owners, 6, 3));
    this.#context.note(`${store.size} connections, room ${room}, balanced ${balanced}`);
  }

  /** Whatever is in some slot now. */
  #any(random: Random): GivenUp {
    const { records } = this.#connections;
    const slot = random.int(records.count);
    return { slot, generation: records.generation(slot) };
  }

  get #connections(): ConnectionStore {
    return this.#context.dp().connections;
  }

  #answer(token: UpcallToken, actions: readonly Action[]): void {
    this.#used.push(token);
    this.#context.dp().execute(token, actions);
  }

  #put(key: FlowKey): void {
    this.#note(++this.#lastId as FlowId, { key, mask: this.#maskFor(key) });
  }

  #note(id: FlowId, { key, mask }: Pick<Known, 'key' | 'mask'>): void {
    const ofConnections = this.#context.random.chance(0.2);
    const put = this.#context.dp().flowPut({ id, key, mask, actions: this.#actions(), ofConnections });
    this.#context.note(`flow ${id} ${put ? 'put' : 'refused'}`);
    if (put) this.#flows.push({ id, key, mask });
  }

  #maskFor(key: FlowKey): FlowMask {
    if (this.#overlapping) return this.#context.random.pick(this.#masks);
    const sum = choosing.reduce((hash, name) => hash * 31 + readNumber(key, fields[name]), 7);
    const mask = this.#masks[sum % this.#masks.length]!.slice();
    for (const name of choosing) use(mask, name);
    return mask;
  }

  /** Mostly the connection that was opened last, whose packets are on the way. */
  #translation(): Action[] {
    const { random } = this.#context;
    if (random.chance(0.5)) return [];
    const { records } = this.#connections;
    const op = random.pick(['nat', 'nat', 'nat', 'related', 'track', 'track', 'track', 'count'] as const);
    if (op === 'count') return [{ op }];
    if (op === 'track') {
      const replyFlow = random.chance(0.5) ? 0 : random.int(this.#lastId + 2);
      return [{ op, replies: random.pick(places), replyFlow, ...randomTreatment(random) }];
    }
    if (op === 'nat' && random.chance(0.5)) return [NAT_BY_TUPLE];
    const slot = random.chance(0.9) ? this.#slot : random.int(records.count + 2);
    const generation = random.chance(0.05) || slot >= records.count ? 1 : records.generation(slot);
    return [{ op, slot, generation, reply: random.chance(0.5) }];
  }

  /** The id of a balancing table, which is mostly there. */
  #table(): number {
    const { random } = this.#context;
    const id = 1 + random.int(6);
    if (random.chance(0.2)) this.#connections.removeTable(id);
    if (random.chance(0.7)) this.#connections.addTable(id, randomTable(random));
    return id;
  }

  #refusal(): RefusalAnswer {
    const { random } = this.#context;
    const number = random.chance(0.5) ? refusalNumbers.tcp_reset : random.int(Object.keys(refusalNumbers).length);
    return refusalOf(number, random.pick(gateways));
  }

  #actions(): Action[] {
    const { random } = this.#context;
    if (random.chance(0.1)) return [{ op: 'consume' }];
    if (random.chance(0.1)) return [{ op: 'balance', table: this.#table(), owners: [owner(random), owner(random)] }];
    if (random.chance(0.15)) return [{ op: 'drop', reason: random.pick(dropReasons)[0] }];
    if (random.chance(0.15)) return [{ op: 'refuse', reason: random.pick(dropReasons)[0], answer: this.#refusal() }];
    const outputs = Array.from({ length: random.pick([1, 1, 1, 2, 5]) }, (): Action => {
      if (random.chance(0.3)) return { op: 'encap', vni: random.pick([1, 0xfffffe]) as Vni, vtep: random.pick(vteps) };
      return { op: 'output', port: (1 + random.int(8)) as PortNo };
    });
    const first = this.#translation();
    if (random.chance(0.2)) first.push({ op: 'mtu', bytes: random.pick([68, 100, 576, 1400]) });
    if (random.chance(0.7)) return [...first, ...outputs];
    if (random.chance(0.3)) return [...first, { op: 'echo' }, ...outputs];
    const clamp: Action[] = random.chance(0.5) ? [{ op: 'clamp', mss: random.pick([0, 100, 536, 1410, 0xffff]) }] : [];
    if (random.chance(0.1)) return [...first, ...clamp, ...outputs];
    return [...first, { op: 'route', source: random.bytes(6), destination: random.bytes(6) }, ...clamp, ...outputs];
  }
}

/** Mostly nothing; meters that are few and slow, so that many packets share them. */
function randomTreatment(random: Random): { readonly treatment?: Treatment } {
  if (random.chance(0.6)) return {};
  const kbits = random.pick([0, 1, 80, 8000]);
  const meter = { id: 1 + random.int(3), kbits, packets: kbits === 0 ? 5 : random.pick([0, 50]) };
  const treatment = treatmentOf(
    random.chance(0.5) ? 0 : random.int(65_536),
    random.chance(0.5) ? undefined : random.int(64),
    random.chance(0.5) ? undefined : meter,
  );
  return treatment ? { treatment } : {};
}

function owner(random: Random): number {
  return FIRST_FREE_OWNER + random.int(3);
}

/** Of backends of both families, few enough that connections get the same one. */
function randomTable(random: Random): BalancingTable {
  const backends = Array.from({ length: 1 + random.int(3) }, (_, n) => ({
    pin: 1 + n,
    address: random.pick(gateways),
    target: random.int(65_536),
    replies: random.chance(0.1) ? undefined : random.pick(places),
  }));
  const slots = Uint16Array.from({ length: 1 + random.int(9) }, () => random.int(backends.length));
  const [quota, unprovenQuota] = [random.pick([3, 100]), random.pick([2, 100])];
  return { byClient: random.chance(0.3), firstPort: random.int(65_536), quota, unprovenQuota, slots, backends };
}

/** An address of the same family. */
function randomIp(like: Uint8Array, random: Random): Uint8Array {
  const ip = random.bytes(16);
  if (isIp4(like)) ip.set(like.subarray(0, 12));
  return ip;
}

function randomMask(random: Random): FlowMask {
  const mask = new Uint8Array(KEY_BYTES);
  const density = random.pick([0.1, 0.4, 0.8, 1]);
  for (const field of fieldList) if (random.chance(density)) use(mask, field.name);
  return mask;
}

function use(mask: FlowMask, name: FieldName): void {
  const { offset, size } = fields[name];
  mask.fill(0xff, offset, offset + size);
}
