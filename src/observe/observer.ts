/**
 * The observer answers an operator's questions about a running switch: status, flows, drops,
 * why, trace and capture. It only reads.
 */
import type { Endpoints } from '../cluster/endpoints.ts';
import type { CachedFlow } from '../control/flows.ts';
import type { DropRecord } from '../control/drop-log.ts';
import type { DatapathCounters, FlowEntry, MirroredFrame } from '../datapath/datapath.ts';
import { WeftError } from '../error.ts';
import { formatActions } from '../flow/action.ts';
import { MASK_CAP } from '../flow/bounds.ts';
import { bpfWants, checkBpf, type BpfProgram } from '../flow/bpf.ts';
import { formatMegaflow, type FlowKey } from '../flow/key.ts';
import { reasonText, type DropReason } from '../flow/reason.ts';
import type { FlowId, PortNo } from '../flow/types.ts';
import type { Forwarding } from '../forwarding.ts';
import type {
  ClashReport,
  ConnectionReport,
  CountedDropReport,
  DatapathReport,
  DropReport,
  FlowReport,
  StatusReport,
  WhyReport,
} from '../model/report.ts';
import type { ServiceNews, ServiceReport } from '../model/service-report.ts';
import { idOf, nameOf, type ResourceName } from '../model/name.ts';
import type { TalkFilter, TalkReport } from '../model/talk-report.ts';
import type { Decision } from '../pipeline/decide.ts';
import { denialOfPacket } from '../pipeline/open-connections.ts';
import { renderText } from '../pipeline/text.ts';
import { OWN_PORT } from '../table/topology.ts';
import { tunnelClash } from './clashes.ts';
import { reportChoice } from './choice.ts';
import {
  reportConnectionAt,
  reportConnections,
  type ConnectionFilter,
  type ConnectionsQuestion,
} from './connections.ts';
import { reportCountedDrop } from './counted-drops.ts';
import { formatKey, reportDecision } from './decision.ts';
import { endsOfDenial, endsOfPacket } from './ends.ts';
import { Pcapng, type PcapngFrame } from './pcapng.ts';
import { watchServices } from './service-watch.ts';
import { talkFilter, type Filtered } from './talk-filter.ts';
import { reportServices, serviceNamed } from './services.ts';
import { inTurns } from '../turns.ts';

export interface CaptureOptions {
  /** Name of a port; all ports if it is not given. */
  readonly port?: string;
  /** Bytes to keep of each frame. */
  readonly snapBytes: number;
  /** Only frames that match: classic BPF, as compiled by libpcap. */
  readonly filter?: BpfProgram;
}

/**
 * Gets whole blocks of one pcapng file, how many frames they contain, and how many were left out since the last call.
 * Blocks without frames must not be left out, since later blocks refer to them.
 */
export type CaptureSink = (blocks: Uint8Array, frames: number, lost: number) => void;

/** Which connections are wanted; all of them if nothing is given. */
export interface ConnectionsOptions {
  /** NAME, or NAMESPACE/NAME, of an endpoint: those that it has opened, or that go to it. */
  readonly endpoint?: string | undefined;
  /** NAME, or NAMESPACE/NAME, of a service: those that were opened through it. */
  readonly service?: string | undefined;
  /** Those of endpoints in this network. */
  readonly network?: string | undefined;
}

export interface ObserverEnvironment {
  readonly forwarding: Forwarding;
  readonly endpoints: Endpoints;
  readonly underlayPort: PortNo;
  /** True if a host is known not to run, or cannot be reached from here. */
  readonly isHostDown: (host: string) => boolean;
  /** True if all hosts have their networks from one store. */
  readonly isShared: boolean;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** The program name that captures contain. */
  readonly application: string;
}

/** What the datapath was opened with. */
type DatapathSettings = Pick<DatapathReport, 'kind' | 'flowLimit'>;

const UNDERLAY = 'underlay';
const OUTSIDE = 'outside';
const INTERNAL = 'internal';
/** Requests that weft itself makes. */
const OWN = 'weft';
/** More than any frame has. */
const WHOLE_FRAME_BYTES = 262_144;

/** How many flows one turn of the event loop reports: takes about a millisecond, mostly for IPv6 addresses. */
export const TURN_FLOWS = 64;

interface Capture {
  readonly port: PortNo | undefined;
  readonly options: CaptureOptions;
  readonly pcapng: Pcapng;
  readonly sink: CaptureSink;
}

export class Observer {
  readonly #environment: ObserverEnvironment;
  readonly #captures = new Set<Capture>();
  readonly #closing = new AbortController();
  readonly #portName = (port: number): string => this.nameOf(port);

  constructor(environment: ObserverEnvironment) {
    this.#environment = environment;
  }

  status(
    datapath: DatapathSettings,
  ): Pick<StatusReport, 'connections' | 'policies' | 'fdb' | 'memory' | 'decisions' | 'audit' | 'datapath' | 'ports'> {
    const { forwarding, endpoints, underlayPort } = this.#environment;
    const counters = forwarding.datapath.counters();
    const { connections } = forwarding.tables;
    const { internal } = forwarding.tables.topology;
    const fdb = forwarding.tables.fdb.statistics();
    const learned = [...fdb.learned].map(([owner, count]) => [this.#ownerName(owner), count] as const);
    const { rss, heapTotal, heapUsed } = process.memoryUsage();
    return {
      connections: {
        active: connections.size,
        tracked: connections.tracked.size,
        ended: connections.ended.size,
        limit: connections.limit,
      },
      policies: { ...forwarding.controller.policyLog.counts },
      fdb: { ...fdb, learned: Object.fromEntries(learned) },
      memory: { rssBytes: rss, heapTotalBytes: heapTotal, heapUsedBytes: heapUsed },
      decisions: forwarding.controller.revalidator.statistics(),
      audit: this.audit(),
      datapath: this.#datapath(datapath, counters),
      ports: [...counters.ports].map(([port, counted]) => ({
        port,
        name: this.nameOf(port),
        kind: port === underlayPort ? 'vxlan' : port === internal?.portNo ? 'internal' : 'tap',
        network: endpoints.byPort(port)?.resource.spec.network ?? null,
        ...counted,
      })),
    };
  }

  audit(): StatusReport['audit'] {
    const { last, ...counts } = this.#environment.forwarding.controller.audit.statistics;
    return { ...counts, ...(last && { last }) };
  }

  datapath(settings: DatapathSettings): DatapathReport {
    return this.#datapath(settings, this.#environment.forwarding.datapath.counters());
  }

  #datapath(settings: DatapathSettings, { ports: _, refused, ...counters }: DatapathCounters): DatapathReport {
    const { flows } = this.#environment.forwarding.controller;
    const { evicted, refusedDrops, refusedLeaving } = flows.masks;
    return {
      ...settings,
      ...counters,
      maskLimit: MASK_CAP,
      refused: { flows: refused.flows, masks: refused.masks + refusedLeaving, dropMasks: refusedDrops },
      evicted: { flows: flows.evicted, masks: evicted },
    };
  }

  /** Frames from the tunnel that show a conflict between another host and this one. */
  tunnelClashes(): ClashReport[] {
    const { forwarding, clock, isShared } = this.#environment;
    const { topology, fdb, neighbors } = forwarding.tables;
    const names = { hostMac: topology.hostMac, fdb, neighbors, portName: this.#portName, isShared };
    const now = clock();
    return forwarding.controller.clashes.all(now).map((seen) => tunnelClash(seen, names, now));
  }

  /**
   * Reports some flows in each turn, since there can be many. Those that come or go in the meantime may or may not be
   * included.
   */
  flows(of: TalkFilter = {}): AsyncGenerator<FlowReport> {
    return this.#flows(this.#wanted(of, flowTalk, noOthers));
  }

  async *#flows(wants: (flow: FlowReport) => boolean): AsyncGenerator<FlowReport> {
    const { flows } = this.#environment.forwarding.controller;
    for await (const { flow, statistics } of inTurns(flows.dump(), TURN_FLOWS)) {
      const report = this.#reportFlow(flow, statistics);
      if (wants(report)) yield report;
    }
  }

  why(id: string): WhyReport {
    const { controller } = this.#environment.forwarding;
    const drop = /^d(\d+)$/.exec(id);
    if (drop) {
      const record = controller.drops.get(Number(drop[1]));
      if (!record)
        throw new WeftError('not_found', `drop "${id}" is not kept any more: \`weft drops\` shows those that are`);
      const decision = reportDecision(record.key, record.decision, this.#portName);
      return { id, decidedAt: this.#wallTime(record.atMs), decision };
    }
    const counted = /^([a-z]\w+)@(.+)$/.exec(id);
    if (counted) return { id, drop: this.#countedDrop(counted[1]!, counted[2]!) };
    const slot = /^c(\d+)$/.exec(id)?.[1];
    if (slot !== undefined) return this.#whyConnection(Number(slot));
    if (!/^\d+$/.test(id))
      throw new WeftError(
        'invalid',
        `"${id}" is not accepted: give a flow’s number (weft flows), a drop’s (weft drops) or a connection’s (weft connections), like 42, d7, port_down@web or c3`,
      );
    const found = controller.flows.find(Number(id) as FlowId);
    if (!found)
      throw new WeftError('not_found', `flow ${id} is not cached (any more): \`weft flows\` shows those that are`);
    const { flow, statistics } = found;
    return {
      id,
      packets: statistics.packets,
      bytes: statistics.bytes,
      idleMs: this.#idleMs(flow, statistics),
      ...this.#whyFlow(flow),
    };
  }

  #countedDrop(reason: string, portName: string): CountedDropReport {
    const { forwarding, endpoints } = this.#environment;
    const port = this.portByName(portName);
    const counters = port === undefined ? undefined : forwarding.datapath.counters().ports.get(port);
    const count = counters?.drops[reason as DropReason];
    if (port === undefined || count === undefined)
      throw new WeftError(
        'not_found',
        `port "${portName}" has dropped nothing as "${reason}": \`weft drops\` shows what was`,
      );
    const endpoint = endpoints.byPort(port);
    return reportCountedDrop({
      ...{ port: portName, reason: reason as DropReason, count },
      endpoint: endpoint && endpoints.report(endpoint),
    });
  }

  /** What is known of a connection, how its backend was chosen, and the decision for its packets. */
  #whyConnection(slot: number): WhyReport {
    const { forwarding } = this.#environment;
    const { connections, services } = forwarding.tables;
    const id = `c${slot}`;
    const connection = reportConnectionAt(slot, this.#connectionsQuestion());
    if (!connection)
      throw new WeftError(
        'not_found',
        `there is no connection ${id} (any more): \`weft connections\` shows those that are`,
      );
    const found = forwarding.controller.flows.find((connections.entry(slot)?.flow ?? 0) as FlowId);
    const choice = services.kept(slot);
    return {
      id,
      ...(found && this.#whyFlow(found.flow)),
      connection,
      ...(choice && { choice: reportChoice(choice) }),
    };
  }

  #whyFlow({ key, decision, decidedAtMs }: CachedFlow): Required<Pick<WhyReport, 'decidedAt' | 'decision'>> {
    return { decidedAt: this.#wallTime(decidedAtMs), decision: reportDecision(key, decision, this.#portName) };
  }

  /** @throws WeftError('not_found') at once if it does not exist */
  services(which: Partial<ResourceName>): AsyncGenerator<ServiceReport> {
    const { forwarding, isHostDown } = this.#environment;
    return reportServices({ tables: forwarding.tables, isHostDown }, which);
  }

  /**
   * What there is of services, and then what has changed, for as long as the switch runs and `signal` is not aborted.
   * @throws WeftError('not_found') at once if one is named that does not exist
   */
  followServices(which: Partial<ResourceName>, signal: AbortSignal): AsyncGenerator<ServiceNews> {
    this.services(which);
    const list = (): AsyncGenerator<ServiceReport> => this.services(which);
    return watchServices(this.#environment, list, AbortSignal.any([signal, this.#closing.signal]));
  }

  /** Ends what follows services. */
  close(): void {
    this.#closing.abort();
  }

  /** What was dropped, by port and reason, with the decision if one was made. @throws WeftError about the filter */
  drops(of: TalkFilter = {}): DropReport[] {
    return this.#drops().filter(this.#wanted(of, dropTalk, () => this.#keptDrops()));
  }

  #drops(): DropReport[] {
    const { forwarding } = this.#environment;
    const reports: DropReport[] = [];
    const counters = forwarding.datapath.counters();
    const rest = new Map(Object.entries(counters.drops) as [DropReason, number][]);
    for (const [port, { drops }] of counters.ports) {
      for (const [reason, count] of Object.entries(drops) as [DropReason, number][]) {
        rest.set(reason, (rest.get(reason) ?? 0) - count);
        const latest = forwarding.controller.drops.latest(port, reason);
        reports.push({
          port: this.nameOf(port),
          reason,
          text: reasonText(reason),
          count,
          ...(latest ? this.#decided(latest) : { id: `${reason}@${this.nameOf(port)}` }),
        });
      }
    }
    for (const [reason, count] of rest) {
      if (count > 0) reports.push({ port: '(gone)', reason, text: reasonText(reason), count });
    }
    return reports;
  }

  /** @throws WeftError('not_found') at once if what is named does not exist */
  connections({ endpoint, service, network }: ConnectionsOptions): AsyncGenerator<ConnectionReport> {
    const { forwarding, endpoints } = this.#environment;
    const { topology } = forwarding.tables;
    if (network !== undefined && !topology.networkNamed(network))
      throw new WeftError('not_found', `network "${network}" does not exist: \`weft network ls\` shows those that do`);
    const of = {
      endpoint: endpoint === undefined ? undefined : endpoints.get(idOf(nameOf(endpoint))).name,
      service: service === undefined ? undefined : serviceNamed(forwarding.tables.services, nameOf(service)).id,
      network,
    };
    return reportConnections(this.#connectionsQuestion(of));
  }

  #connectionsQuestion(of?: ConnectionFilter): ConnectionsQuestion {
    const { forwarding, endpoints, clock } = this.#environment;
    return { tables: forwarding.tables, endpoints: endpoints.all(), of, clock };
  }

  /** @throws WeftError about the filter */
  onFlow(listener: (flow: FlowReport) => void, of: TalkFilter = {}): () => void {
    const wants = this.#wanted(of, flowTalk, noOthers);
    return this.#environment.forwarding.controller.onFlow((flow) => {
      const report = this.#reportFlow(flow);
      if (wants(report)) listener(report);
    });
  }

  /** With `since`, first what is kept. */
  onDrop(listener: (drop: DropReport) => void, of: TalkFilter = {}): () => void {
    const { drops } = this.#environment.forwarding.controller;
    const wants = this.#wanted(of, dropTalk, () => this.#keptDrops());
    const tell = (record: DropRecord): void => {
      const report = this.#reportDrop(record);
      if (wants(report)) listener(report);
    };
    if (of.since !== undefined) for (const record of drops.records()) tell(record);
    return drops.onDrop(tell);
  }

  /** @param kept what may be of endpoints that have gone @throws WeftError about the filter */
  #wanted<T>(of: TalkFilter, talk: (report: T) => Filtered, kept: () => Iterable<Filtered>): (report: T) => boolean {
    const { endpoints, forwarding, wallClock } = this.#environment;
    const wants = talkFilter(of, wallClock(), {
      hasEndpoint: (id) => endpoints.find(id) !== undefined,
      hasNetwork: (name) => forwarding.tables.topology.networkNamed(name) !== undefined,
      kept,
    });
    return (report) => wants(talk(report));
  }

  #keptDrops(): Filtered[] {
    const { drops } = this.#environment.forwarding.controller;
    return drops.records().map((record) => dropTalk(this.#reportDrop(record)));
  }

  #reportDrop(record: DropRecord): DropReport {
    const { port, reason } = record;
    return { port: this.nameOf(port), reason, text: reasonText(reason), count: 1, ...this.#decided(record) };
  }

  /**
   * Copies frames to `sink`, as a pcapng file. Returns how to stop, which takes effect at once and first gives `sink`
   * what still waits.
   * @throws WeftError('not_found') if the port does not exist, WeftError('invalid') for a filter that cannot be run
   */
  capture(options: CaptureOptions, sink: CaptureSink): () => void {
    const port = options.port === undefined ? undefined : this.portByName(options.port);
    if (options.port !== undefined && port === undefined) {
      throw new WeftError('not_found', `port "${options.port}" does not exist: \`weft status\` shows those that do`);
    }
    if (options.filter) checkBpf(options.filter);
    const pcapng = new Pcapng(options.snapBytes);
    const capture: Capture = { port, options, pcapng, sink };
    sink(pcapng.header(this.#environment.application), 0, 0);
    this.#captures.add(capture);
    this.#mirror();
    return () => {
      if (this.#captures.delete(capture)) this.#mirror();
    };
  }

  /**
   * The datapath has one mirror. A single capture uses it directly. With several captures it copies every frame that
   * any of them wants, and they are separated here; filters then need whole frames.
   */
  #mirror(): void {
    const { datapath } = this.#environment.forwarding;
    const captures = [...this.#captures];
    const [first] = captures;
    if (!first) {
      datapath.mirror(null);
      return;
    }
    if (captures.length === 1) {
      const { port, options } = first;
      const { snapBytes, filter } = options;
      datapath.mirror({ snapBytes, ...(port !== undefined && { port }), ...(filter && { filter }) }, (frames, lost) =>
        this.#deliver(first, frames, lost),
      );
      return;
    }
    const isOnePort = captures.every(({ port }) => port === first.port);
    const isFiltered = captures.some(({ options }) => options.filter);
    const snapBytes = isFiltered ? WHOLE_FRAME_BYTES : Math.max(...captures.map(({ options }) => options.snapBytes));
    datapath.mirror(
      { snapBytes, ...(isOnePort && first.port !== undefined && { port: first.port }) },
      (frames, lost) => {
        for (const capture of captures) this.#deliver(capture, wantedBy(capture, frames), lost);
      },
    );
  }

  #deliver({ options, pcapng, sink }: Capture, frames: readonly MirroredFrame[], lost: number): void {
    if (frames.length === 0 && lost === 0) return;
    const { clock, wallClock } = this.#environment;
    const epochMs = wallClock() - clock();
    const names = new Map<PortNo, string>();
    const named = frames.map((frame) => {
      const { port } = frame;
      let name = names.get(port);
      if (name === undefined) names.set(port, (name = this.nameOf(port)));
      return new NamedFrame(frame, name, epochMs, options.snapBytes);
    });
    const interfaces = pcapng.interfaces(named);
    if (interfaces.length > 0) sink(interfaces, 0, 0);
    sink(pcapng.frames(named), named.length, lost);
  }

  #decided({ id, atMs, key, decision }: DropRecord): Omit<DropReport, 'port' | 'reason' | 'text' | 'count'> {
    const last = decision.stages.at(-1);
    return {
      id: `d${id}`,
      lastAt: this.#wallTime(atMs),
      flow: formatKey(key, this.#portName),
      packet: this.#endsOf(key, decision),
      ...(last && { because: renderText(last.because) }),
    };
  }

  /** Where policies deny it, the workloads that they mean. */
  #endsOf(key: FlowKey, { reason, judged }: Decision): TalkReport {
    const ends = endsOfPacket(key, this.#environment.forwarding.tables);
    const denied = judged.at(-1);
    if (!denied || (reason !== 'policy_egress' && reason !== 'policy_ingress')) return ends;
    return {
      ...endsOfDenial(denialOfPacket(key, denied, this.#environment.forwarding.tables), ends.network),
      source: ends.source,
    };
  }

  #reportFlow(flow: CachedFlow, statistics?: FlowEntry): FlowReport {
    const { key, decision } = flow;
    return {
      id: flow.id,
      megaflow: formatMegaflow(key, decision.mask, this.#portName),
      actions: formatActions(decision.actions, this.#portName),
      packets: statistics?.packets ?? 0,
      bytes: statistics?.bytes ?? 0,
      decidedAt: this.#wallTime(flow.decidedAtMs),
      idleMs: this.#idleMs(flow, statistics),
      packet: this.#endsOf(key, decision),
      ...(decision.reason && { reason: decision.reason }),
    };
  }

  /** The frame for which a flow was decided came before the decision, so no flow is idle for longer than its age. */
  #idleMs({ decidedAtMs }: CachedFlow, statistics: FlowEntry | undefined): number {
    const lastUsedMs = Math.max(decidedAtMs, statistics?.lastUsedMs ?? decidedAtMs);
    return Math.max(0, Math.round(this.#environment.clock() - lastUsedMs));
  }

  #wallTime(ms: number): string {
    const { clock, wallClock } = this.#environment;
    return new Date(wallClock() - clock() + ms).toISOString();
  }

  nameOf(port: number): string {
    if (port === this.#environment.underlayPort) return UNDERLAY;
    const { outside, internal } = this.#environment.forwarding.tables.topology;
    if (port === outside?.portNo) return OUTSIDE;
    if (port === internal?.portNo) return INTERNAL;
    if (port === OWN_PORT) return OWN;
    return this.#environment.endpoints.portName(port) ?? String(port);
  }

  /** `port/3` and `vtep/…`, as the forwarding database names owners. */
  #ownerName(owner: string): string {
    const port = /^port\/(\d+)$/.exec(owner);
    return port ? this.nameOf(Number(port[1])) : owner.replace(/^vtep\//, '');
  }

  portByName(name: string): PortNo | undefined {
    if (name === UNDERLAY) return this.#environment.underlayPort;
    const { endpoints, forwarding } = this.#environment;
    if (name === OUTSIDE) return forwarding.tables.topology.outside?.portNo;
    if (name === INTERNAL) return forwarding.tables.topology.internal?.portNo;
    const endpoint = endpoints.find(idOf(nameOf(name)));
    if (endpoint?.state === 'attached') return endpoint.local!.portNo as PortNo;
    if (name === OWN) return OWN_PORT;
    const number = Number(name);
    return Number.isInteger(number) && forwarding.tables.topology.port(number as PortNo)
      ? (number as PortNo)
      : undefined;
  }
}

/** Whoever has gone has no flows any more. */
const noOthers = (): readonly Filtered[] => [];

function flowTalk({ packet, reason, decidedAt }: FlowReport): Filtered {
  return { ...packet, reason, when: decidedAt };
}

function dropTalk({ packet, reason, lastAt }: DropReport): Filtered {
  return { ...packet, reason, when: lastAt };
}

/** @param frames whole frames if the capture has a filter */
function wantedBy({ port, options: { filter } }: Capture, frames: readonly MirroredFrame[]): readonly MirroredFrame[] {
  return frames.filter(
    (frame) => (port === undefined || frame.port === port) && (!filter || bpfWants(filter, frame.bytes)),
  );
}

/** A mirrored frame in a capture. Like the mirrored frame, it is read when it is written. */
class NamedFrame implements PcapngFrame {
  readonly port: string;
  readonly #frame: MirroredFrame;
  readonly #epochMs: number;
  readonly #snapBytes: number;

  constructor(frame: MirroredFrame, port: string, epochMs: number, snapBytes: number) {
    this.port = port;
    this.#frame = frame;
    this.#epochMs = epochMs;
    this.#snapBytes = snapBytes;
  }

  get direction(): 'rx' | 'tx' {
    return this.#frame.direction;
  }

  get timeNs(): number {
    return Math.round((this.#epochMs + this.#frame.timeMs) * 1e6);
  }

  get lengthBytes(): number {
    return this.#frame.lengthBytes;
  }

  get bytes(): Uint8Array {
    const { bytes } = this.#frame;
    return bytes.length <= this.#snapBytes ? bytes : bytes.subarray(0, this.#snapBytes);
  }
}
