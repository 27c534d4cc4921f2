/**
 * The differential test: two datapaths get the same calls, and must give the same frames, upcalls,
 * counters and flows.
 *
 * A run consists of sessions. Each opens both datapaths again with a random configuration and takes
 * them through random steps: correct and broken frames, superframes and bursts from local ports and the
 * tunnel; ports that come and go; decisions made at once or late; flows that are replaced and deleted;
 * time that passes. The output is compared after each step, counters and flows now and then.
 *
 * Everything that happens in a step follows from the seed, the session and the number of the step
 * alone, so a session stays valid when steps are left out. That is how a failure is reduced: steps are
 * left out as long as it still fails.
 *
 * Who decides is a parameter: `RandomDecider` reaches the corners of the contract, and a controller
 * with the real pipeline can take its place.
 */
import {
  openPort,
  type Datagram,
  type DatapathCounters,
  type OffloadedFrame,
  type PortRates,
  type PortSpec,
  type Rate,
  type Upcall,
} from '../../src/datapath/datapath.ts';
import type { Offload } from '../../src/flow/offload.ts';
import { connectionBytes, INTERNAL, type Place } from '../../src/flow/connection.ts';
import { formatIp, parseIp, type PortNo, type Vni } from '../../src/flow/types.ts';
import { getU16 } from '../../src/wire/bytes.ts';
import { ETH_IPV4 } from '../../src/wire/ethernet.ts';
import { buildVxlan, parseVxlan } from '../../src/wire/vxlan.ts';
import { portNo, type Open, type Switch } from '../conformance/harness.ts';
import { mutateOffload, randomBurst } from '../support/random-bursts.ts';
import { randomFragments, waitingFragments } from '../support/random-fragments.ts';
import { mutate, randomFrame } from '../support/random-frames.ts';
import { inTurn, Random } from '../support/random.ts';
import { compareState } from './compared-state.ts';
import { answerTo, isAnswerable, type Said } from './conversations.ts';
import { Reached } from './reached.ts';

/** Answers upcalls. It sees one datapath, and must not depend on anything else except its random numbers. */
export interface Decider {
  /** The port that leads to weft's own sockets, if there is one. */
  readonly socketsPort?: number;
  /** Runs inside `onUpcall`. */
  upcalls(batch: readonly Upcall[]): void;
  /** Something of its own: late answers, changes of flows. */
  step(random: Random): void;
  portAdded?(port: PortNo, spec: PortSpec): void;
  portRemoved?(port: PortNo): void;
}

export interface DeciderContext {
  /** Open by the time of the first call to the decider. */
  readonly dp: () => Switch;
  readonly random: Random;
  /** Grows by one with each session: a decider goes through its kinds by it (`inTurn`). */
  readonly turn: number;
  readonly clock: () => number;
  /** Adds something to what is compared. */
  readonly note: (text: string) => void;
}

export type MakeDecider = (context: DeciderContext) => Decider;

export interface DifferentialOptions {
  readonly left: Open;
  readonly right: Open;
  readonly decider: MakeDecider;
  /** What most frames are, if given, and the port where each comes in. */
  readonly usual?: (random: Random) => Said;
  readonly seed: number;
  /** Frames and datagrams in all. */
  readonly frames: number;
  readonly onProgress?: (framesDone: number) => void;
}

export interface DifferentialResult {
  readonly frames: number;
  readonly sessions: number;
  /** Sums over all sessions, which show whether the run reached what it is for. */
  readonly reached: ReadonlyMap<string, number>;
  readonly drops: ReadonlyMap<string, number>;
  readonly hits: number;
  readonly upcalls: number;
  readonly segments: number;
  readonly coalesced: number;
}

/** The datapaths differ: `message` has the seed and the shortest list of steps that was found. */
export class Difference extends Error {
  readonly steps: readonly string[];

  constructor(message: string, steps: readonly string[]) {
    super(`${message}\n${steps.join('\n')}`);
    this.name = 'Difference';
    this.steps = steps;
  }
}

const STEPS_PER_SESSION = 3000;
/** How many frames can be answered. */
const ANSWERABLE = 8;
const FRAME_OUT = 'frame out of port';
/** Connections, and slots for them. */
const CONNECTIONS = { cap: 16, slots: 20 };
/** The place in which the tuples of packets from each port are meaningful. */
const placeOf: Readonly<Record<number, Place>> = { 1: 1 as Place, 2: 1 as Place, 3: 0, 4: 1 as Place, 5: 100 as Place };
const COMPARE_STATE_EVERY = 250;
/** Connections end soon. */
const LOOK_AT_CONNECTIONS_EVERY = 25;
const MEMORY_PORTS = [1, 2, 3, 4, 5];
const VXLAN_PORTS = [6, 7];
const localAddresses = ['192.0.2.1', '2001:db8::1'];
const remoteAddresses = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '2001:db8::1', '2001:db8::2'].map(parseIp);
const destination = parseIp('192.0.2.1');
const vnis = [1, 100, 0xfffffe];

/** @throws Difference */
export function runDifferential(options: DifferentialOptions): DifferentialResult {
  const drops = new Map<string, number>();
  const reached = new Reached();
  let [frames, sessions, hits, upcalls, segments, coalesced] = [0, 0, 0, 0, 0, 0];
  for (; frames < options.frames; sessions++) {
    const steps = Array.from({ length: STEPS_PER_SESSION }, (_, index) => index);
    const outcome = runSession(options, sessions, steps, options.frames - frames);
    if (outcome.failure) throw shrink(options, sessions, steps.slice(0, outcome.steps), outcome.failure);
    frames += outcome.frames;
    upcalls += outcome.counters.upcalls;
    segments += outcome.counters.segments;
    coalesced += outcome.counters.coalesced;
    hits += outcome.hits;
    reached.addAll(outcome.reached);
    for (const [reason, count] of Object.entries(outcome.counters.drops))
      drops.set(reason, (drops.get(reason) ?? 0) + count);
    options.onProgress?.(frames);
  }
  return { frames, sessions, reached: reached.counts, drops, hits, upcalls, segments, coalesced };
}

interface Outcome {
  readonly failure: string | undefined;
  /** Steps that have begun. */
  readonly steps: number;
  readonly frames: number;
  readonly counters: DatapathCounters;
  readonly hits: number;
  readonly reached: Reached;
}

function runSession(
  options: DifferentialOptions,
  session: number,
  steps: readonly number[],
  maxFrames: number,
): Outcome {
  const { seed } = options;
  const { flowCap, pool } = configOf(seed, session);
  const worlds = [options.left, options.right].map(
    (open) => new World(open, options.decider, new Random(seed, session, 1), seed + session, flowCap),
  ) as [World, World];
  const [left, right] = worlds;
  let [begun, frames] = [0, 0];
  let failure: string | undefined;
  const reached = new Reached();
  try {
    for (const world of worlds) world.begin(new Random(seed, session, 2));
    for (const index of steps) {
      if (frames >= maxFrames) break;
      begun++;
      const step = stepOf(options, session, index, pool);
      frames += left.step(step);
      right.step(step);
      left.tellReached(reached);
      failure = compareEvents(left, right);
      if (!failure && begun % COMPARE_STATE_EVERY === 0) {
        failure = compareState(left.dp, right.dp);
        reached.flows(left.dp.flowDump());
      }
      if (begun % LOOK_AT_CONNECTIONS_EVERY === 0) reached.connections(left.dp.connections.records);
      if (failure) break;
    }
    failure ??= compareState(left.dp, right.dp);
    const { hits } = left;
    for (const world of worlds) world.dp.close();
    failure ??= compareEvents(left, right) ?? compareState(left.dp, right.dp);
    return { failure, steps: begun, frames, counters: left.dp.counters(), hits, reached };
  } catch (error) {
    failure = `exception: ${error instanceof Error ? error.stack : String(error)}`;
    return { failure, steps: begun, frames, counters: left.dp.counters(), hits: 0, reached };
  } finally {
    for (const world of worlds) world.dp.close();
  }
}

/** Leaves out smaller and smaller parts of the steps as long as the session fails. */
function shrink(options: DifferentialOptions, session: number, failing: readonly number[], first: string): Difference {
  let steps = failing;
  let failure = first;
  for (let part = steps.length >> 1, runs = 0; part >= 1 && runs < 400; part >>= 1) {
    for (let at = 0; at < steps.length && runs < 400; runs++) {
      const fewer = [...steps.slice(0, at), ...steps.slice(at + part)];
      const outcome = runSession(options, session, fewer, Number.POSITIVE_INFINITY);
      if (outcome.failure) {
        failure = outcome.failure;
        steps = fewer.slice(0, outcome.steps);
      } else {
        at += part;
      }
    }
  }
  const { pool } = configOf(options.seed, session);
  const texts = steps.map((index) => `  step ${index}: ${describe(stepOf(options, session, index, pool))}`);
  return new Difference(`seed ${options.seed}, session ${session}: ${failure}`, texts);
}

/** The frames of `pool` repeat, so that flows are hit and frames park. */
function configOf(seed: number, session: number): { flowCap: number; pool: readonly Uint8Array[] } {
  const random = new Random(seed, session, 0);
  const flowCap = inTurn([3, 20, 200, 2000], seed + session, 2);
  const frames = inTurn([20, 200, 1000], seed + session, 3);
  return { flowCap, pool: Array.from({ length: frames }, () => randomFrame(random)) };
}

type Step =
  | { readonly what: 'frames'; readonly port: number; readonly frames: readonly Uint8Array[] }
  | { readonly what: 'burst'; readonly port: number; readonly frames: readonly OffloadedFrame[] }
  | { readonly what: 'datagrams'; readonly datagrams: readonly Pick<Datagram, 'source' | 'tos' | 'payload'>[] }
  /** Somebody who received one of the last frames answers it. */
  | { readonly what: 'answer'; readonly to: number; readonly random: () => Random }
  | { readonly what: 'originate'; readonly frame: Uint8Array; readonly port: number }
  /** Each datapath's decider gets random numbers of its own, the same for both. */
  | { readonly what: 'decider'; readonly random: () => Random }
  | { readonly what: 'advance'; readonly ms: number }
  | { readonly what: 'rates'; readonly port: number; readonly rates: PortRates }
  | { readonly what: 'port'; readonly port: number; readonly local: string; readonly offloads: boolean };

/** Gives an untagged IPv4 frame a wrong header checksum; other frames stay as they are. */
function withWrongIpv4Checksum(frame: Uint8Array): Uint8Array {
  return frame.length > 25 && getU16(frame, 12) === ETH_IPV4 ? frame.with(25, frame[25]! ^ 1) : frame;
}

function stepOf(
  { seed, usual }: DifferentialOptions,
  session: number,
  index: number,
  pool: readonly Uint8Array[],
): Step {
  const random = new Random(seed, session, 3, index);
  const some = () => {
    const frame = random.chance(0.8) ? random.pick(pool) : randomFrame(random);
    return random.chance(0.3) ? mutate(frame, random) : frame;
  };
  const kind = random.int(1000);
  // Frames from the tunnel, mostly from one sender and of one network.
  const datagramsOf = (inner: readonly Uint8Array[]) => {
    const [usualVni, usualSource, usualTos] = [random.pick(vnis), random.pick(remoteAddresses), random.int(256)];
    return inner.map((frame) => {
      const payload = buildVxlan({ vni: random.chance(0.95) ? usualVni : random.pick(vnis), frame });
      const source = random.chance(0.95) ? usualSource : random.pick(remoteAddresses);
      const tos = random.chance(0.5) ? usualTos : random.int(256);
      return { source, tos, payload: random.chance(0.03) ? mutate(payload, random) : payload };
    });
  };
  if (kind < 40) {
    const frames = randomBurst(random, some).map((one) => (random.chance(0.1) ? mutateOffload(one, random) : one));
    return { what: 'burst', port: random.pick(MEMORY_PORTS), frames };
  }
  if (kind < 60) {
    return { what: 'datagrams', datagrams: datagramsOf(randomBurst(random, some).map(({ frame }) => frame)) };
  }
  if (kind < 110) {
    const fragments = random.chance(0.02) ? waitingFragments(random) : randomFragments(random);
    const inner = fragments.map((frame) => (random.chance(0.01) ? mutate(frame, random) : frame));
    if (random.chance(0.3)) return { what: 'datagrams', datagrams: datagramsOf(inner) };
    return { what: 'burst', port: random.pick(MEMORY_PORTS), frames: inner.map((frame) => ({ frame })) };
  }
  const answer = () =>
    ({ what: 'answer', to: random.int(ANSWERABLE), random: () => new Random(seed, session, 5, index) }) as const;
  if (kind < 660) {
    if (usual && random.chance(0.8)) {
      const { port, frame: right, tunnel } = usual(random);
      const frame = random.chance(0.02) ? withWrongIpv4Checksum(right) : right;
      if (tunnel) {
        const payload = buildVxlan({ vni: tunnel.vni, frame });
        return { what: 'datagrams', datagrams: [{ source: tunnel.vtep, payload }] };
      }
      return { what: 'frames', port, frames: new Array<Uint8Array>(random.pick([1, 1, 3])).fill(frame) };
    }
    const frame = some();
    const frames = random.chance(0.1) ? new Array<Uint8Array>(random.int(12)).fill(frame) : [frame];
    return { what: 'frames', port: random.pick(MEMORY_PORTS), frames };
  }
  if (kind < (usual ? 800 : 740)) return answer();
  if (kind < 860) {
    const payload = buildVxlan({ vni: random.pick(vnis), frame: some() });
    const broken = random.chance(0.15) ? mutate(payload, random) : payload;
    return {
      what: 'datagrams',
      datagrams: [{ source: random.pick(remoteAddresses), tos: random.int(256), payload: broken }],
    };
  }
  if (kind < 880) return { what: 'originate', frame: some(), port: random.pick([...MEMORY_PORTS, ...VXLAN_PORTS]) };
  if (kind < 970) return { what: 'decider', random: () => new Random(seed, session, 4, index) };
  if (kind < 985) return { what: 'advance', ms: random.pick([random.int(3000), random.int(30_000) / 1000]) };
  if (kind < 990) {
    return { what: 'rates', port: random.pick([...MEMORY_PORTS, ...VXLAN_PORTS]), rates: randomRates(random) };
  }
  const port = random.pick([...MEMORY_PORTS, ...VXLAN_PORTS]);
  return { what: 'port', port, local: random.pick(localAddresses), offloads: random.chance(0.5) };
}

/** Mostly rates that are reached. */
function randomRates(random: Random): PortRates {
  const rate = (most: number): Rate => ({ perSecond: 1 + random.int(most), burst: 1 + random.int(most) });
  const queue = () => (random.chance(0.5) ? { queue: random.int(100_000) } : {});
  return {
    ...(random.chance(0.3) && { ingress: { ...rate(random.pick([100, 10_000, 1_000_000])), ...queue() } }),
    ...(random.chance(0.3) && { egress: { ...rate(random.pick([100, 10_000, 1_000_000])), ...queue() } }),
    ...(random.chance(0.3) && { storm: rate(100) }),
    ...(random.chance(0.3) && { upcalls: rate(100) }),
    ...(random.chance(0.3) && { answers: rate(20) }),
    ...(random.chance(0.3) && { sockets: rate(100) }),
    ...(random.chance(0.3) && { unanswered: rate(100) }),
  };
}

function describe(step: Step): string {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  switch (step.what) {
    case 'frames':
      return `${step.frames.length} x port ${step.port} ${step.frames[0] ? hex(step.frames[0]) : ''}`;
    case 'burst':
      return `burst from port ${step.port}${step.frames.map((one) => `\n    ${offloadText(one.offload)} ${hex(one.frame)}`).join('')}`;
    case 'datagrams':
      return `datagrams${step.datagrams.map((one) => `\n    from ${formatIp(one.source)} tos ${one.tos} ${hex(one.payload)}`).join('')}`;
    case 'answer':
      return `an answer to the last frame but ${step.to}`;
    case 'originate':
      return `originate to port ${step.port} ${hex(step.frame)}`;
    case 'decider':
      return 'the decider’s own step';
    case 'advance':
      return `${step.ms} ms pass`;
    case 'rates':
      return `port ${step.port} has the rates ${JSON.stringify(step.rates)}`;
    case 'port':
      return `port ${step.port} is added (${step.local}${step.offloads ? ', with offloads' : ''}) or removed`;
    default:
      return step satisfies never;
  }
}

function offloadText(offload: Offload | undefined): string {
  if (!offload) return 'complete';
  const { flags, gsoType, gsoSize, csumStart, csumOffset } = offload;
  return `flags ${flags} gso ${gsoType}/${gsoSize} csum ${csumStart}+${csumOffset}`;
}

interface Event {
  readonly text: string;
  readonly bytes?: Uint8Array;
}

/** One datapath with its decider, and everything that came out of it since the last comparison. */
class World {
  readonly dp: Switch;
  events: Event[] = [];
  readonly #decider: Decider;
  readonly #ports = new Map<number, PortSpec>();
  /** The last frames that came out of ports, and which ports: of the tunnel, those in the datagrams. */
  readonly #got: Said[] = [];
  /** The input of the last step from local ports: the frames of a burst, or one frame. */
  #inputs: readonly Uint8Array[] = [];
  #nowMs = 1000;

  constructor(open: Open, decider: MakeDecider, random: Random, turn: number, flowCap: number) {
    const note = (text: string) => this.events.push({ text });
    this.#decider = decider({
      dp: () => this.dp,
      random,
      turn,
      clock: () => this.#nowMs,
      note,
    });
    this.dp = open({
      flowCap,
      connections: {
        memory: new Uint8Array(connectionBytes(CONNECTIONS.slots)),
        limit: CONNECTIONS.cap,
        quota: 8,
        unprovenQuota: 5,
      },
      clock: () => this.#nowMs,
      onPortLost: (port) => note(`lost ${port}`),
      onUpcall: (batch) => {
        for (const { key, head, lengthBytes } of batch) {
          this.events.push({ text: `upcall for ${lengthBytes} bytes`, bytes: Buffer.concat([key, head]) });
        }
        this.#decider.upcalls(batch);
      },
    });
  }

  /** How many frames the existing cached flows have forwarded. */
  get hits(): number {
    return [...this.dp.flowDump()].reduce((sum, flow) => sum + flow.packets, 0);
  }

  /** Reports the results of the last step, which has not been compared yet. */
  tellReached(reached: Reached): void {
    const inputs = this.#inputs;
    this.#inputs = [];
    const outputs = this.events.flatMap(({ text, bytes }) => (bytes && text.startsWith(FRAME_OUT) ? [bytes] : []));
    if (inputs.length > 1) reached.burst(inputs, outputs);
    else for (const input of inputs) for (const output of outputs) reached.frame(input, output);
  }

  begin(random: Random): void {
    for (const port of MEMORY_PORTS) if (random.chance(0.8)) this.#togglePort(port, '', random.chance(0.5));
    if (random.chance(0.9)) this.#togglePort(VXLAN_PORTS[0]!, random.pick(localAddresses), false);
  }

  /** Returns the number of frames that it took in. */
  step(step: Step): number {
    switch (step.what) {
      case 'frames':
        if (!this.#ports.has(step.port)) return 0;
        this.#inputs = step.frames.slice(0, 1);
        for (const frame of step.frames) this.dp.inject(portNo(step.port), frame);
        return step.frames.length;
      case 'burst':
        if (!this.#ports.has(step.port)) return 0;
        this.#inputs = step.frames.map(({ frame }) => frame);
        this.dp.injectBurst(portNo(step.port), step.frames);
        return step.frames.length;
      case 'datagrams':
        return this.#receive(step.datagrams);
      case 'answer': {
        const got = this.#got.at(-1 - step.to);
        if (!got || !this.#ports.has(got.port)) return 0;
        const { port, tunnel } = got;
        const frame = answerTo(got, step.random());
        if (!frame) return 0;
        if (tunnel) return this.#receive([{ source: tunnel.vtep, payload: buildVxlan({ vni: tunnel.vni, frame }) }]);
        this.#inputs = [frame];
        this.dp.inject(portNo(port), frame);
        return 1;
      }
      case 'originate':
        this.dp.execute({ frame: step.frame }, [{ op: 'output', port: portNo(step.port) }]);
        return 0;
      case 'decider':
        this.#decider.step(step.random());
        return 0;
      case 'advance':
        this.#nowMs += step.ms;
        return 0;
      case 'rates': {
        this.dp.portSet(portNo(step.port), step.rates);
        return 0;
      }
      case 'port':
        this.#togglePort(step.port, step.local, step.offloads);
        return 0;
      default:
        return step satisfies never;
    }
  }

  #receive(datagrams: readonly Pick<Datagram, 'source' | 'tos' | 'payload'>[]): number {
    const port = VXLAN_PORTS.find((one) => this.#ports.has(one));
    if (port === undefined) return 0;
    this.dp.injectDatagrams(
      portNo(port),
      datagrams.map((one) => ({ ...one, destination, sourcePort: 50000 })),
    );
    return datagrams.length;
  }

  #remember(said: Said): void {
    if (!isAnswerable(said.frame)) return;
    this.#got.push(said);
    if (this.#got.length > ANSWERABLE) this.#got.shift();
  }

  #togglePort(port: number, local: string, offloads: boolean): void {
    if (this.#ports.delete(port)) {
      this.dp.portDel(portNo(port));
      this.#decider.portRemoved?.(portNo(port));
      return;
    }
    const isTunnel = VXLAN_PORTS.includes(port);
    if (isTunnel && VXLAN_PORTS.some((one) => this.#ports.has(one))) return;
    const spec: PortSpec = isTunnel
      ? {
          kind: 'memory-vxlan',
          name: `vxlan${port}`,
          local: parseIp(local),
          transmit: ({ source, destination, sourcePort, tos, payload }) => {
            const text = `datagram ${formatIp(source)}.${sourcePort} > ${formatIp(destination)} tos ${tos}`;
            this.events.push({ text, bytes: payload });
            const { vni, frame } = parseVxlan(payload)!;
            this.#remember({ port, frame, tunnel: { vtep: destination, vni: vni as Vni } });
          },
        }
      : {
          kind: 'memory',
          name: `m${port}`,
          offloads,
          place: port === this.#decider.socketsPort ? INTERNAL : placeOf[port]!,
          transmit: (frame, offload) => {
            this.#remember({ port, frame });
            this.events.push({ text: `${FRAME_OUT} ${port}, ${offloadText(offload)}`, bytes: frame });
          },
        };
    openPort(this.dp, portNo(port), spec);
    this.#ports.set(port, spec);
    this.#decider.portAdded?.(portNo(port), spec);
  }
}

/** Compares what came out, and forgets it. */
function compareEvents(left: World, right: World): string | undefined {
  const [a, b] = [left.events, right.events];
  left.events = [];
  right.events = [];
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [one, other] = [a[i], b[i]];
    const same =
      one && other && one.text === other.text && Buffer.compare(one.bytes ?? none, other.bytes ?? none) === 0;
    if (!same) return `event ${i} differs:\n  left:  ${eventText(one)}\n  right: ${eventText(other)}`;
  }
  return undefined;
}

const none = new Uint8Array();

function eventText(event: Event | undefined): string {
  return event ? `${event.text} ${Buffer.from(event.bytes ?? none).toString('hex')}` : 'nothing';
}
