/** The checks of `weft doctor`: what weft needs from this machine, and whether it is there. */
import { release } from 'node:os';
import type { PublishedEndpointPort } from '../cluster/publishing.ts';
import type { Path } from '../paths/paths.ts';
import type { KernelOffloads, Tried } from '../addon/kernel-offloads.ts';
import type { Probe } from '../paths/probe.ts';
import { missingCapabilities, threadCapabilities, type ThreadCapabilities } from '../link/capabilities.ts';
import { requireTun } from '../link/tun.ts';
import type { OutsideState } from '../outside/state.ts';
import type { UnderlayInterface } from '../link/underlay.ts';
import { someOf } from '../model/name.ts';
import { takenBackText } from '../model/confirmation-text.ts';
import { moreRefusedText, REFUSED_HINT, refusedRecordText } from '../model/refused-record.ts';
import { portText } from '../model/publish.ts';
import type {
  CheckReport,
  ClashReport,
  DatapathReport,
  DoctorReport,
  HookReport,
  HostReport,
  RefusedRecordReport,
  SharedStoreReport,
  StatusReport,
} from '../model/report.ts';
import { checkCutOff, checkMembership } from './membership-check.ts';
import { checkState } from './state-check.ts';
import { checkStore } from './store-check.ts';

/** What the checks look at. */
export interface DoctorEnvironment {
  /** The state directory. */
  readonly state: string;
  readonly underlay: string | undefined;
  /** The tunnel to other hosts, and what it waits for; undefined if none is wanted. */
  readonly tunnel: StatusReport['tunnel'] | undefined;
  /** UDP port of the overlay. */
  readonly vxlanPort: number;
  /** Underlay addresses of the other hosts. */
  readonly peers: readonly string[];
  /** What probes tell of them. */
  readonly hosts: readonly HostReport[];
  /** By peer, for peers to which there is a route. */
  readonly paths: ReadonlyMap<string, Path>;
  readonly networks: readonly { readonly name: string; readonly mtu: number }[];
  /** The interface with the underlay address. @throws if no interface has it */
  readonly underlayInterface: () => Promise<UnderlayInterface | undefined>;
  /** Bytes that encapsulation costs on this underlay. */
  readonly encapBytes: number;
  /** Undefined if probing is not possible. */
  readonly probe: Probe | undefined;
  readonly offloads: KernelOffloads;
  /** Undefined if no network has an outside. */
  readonly outside: (() => Promise<OutsideState>) | undefined;
  /** Ports published by endpoints of this host. */
  readonly published: readonly PublishedEndpointPort[];
  readonly clashes: readonly ClashReport[];
  /** What is doubtful about policies. */
  readonly policies: () => Promise<readonly ClashReport[]>;
  /** Flow hooks. */
  readonly hooks: readonly HookReport[];
  /** Records of the store that this host does not accept. */
  readonly refusedRecords: readonly RefusedRecordReport[];
  /** Also of those that are not named. */
  readonly refusedRecordCount: number;
  /** Weft's own sockets; null if there are none. */
  readonly internal: StatusReport['internal'];
  /** Addresses of this host's interfaces, canonical text. */
  readonly ownAddresses: () => Promise<ReadonlySet<string>>;
  /** How many endpoints this host has, and what is wrong with their interfaces, by endpoint. */
  readonly endpoints: () => Promise<{
    readonly local: number;
    readonly problems: Readonly<Record<string, readonly string[]>>;
  }>;
  /** Undefined if this host has its store for itself. */
  readonly store: SharedStoreReport | undefined;
  /** Why nothing is known of the cluster yet; undefined if that is not so. */
  readonly waitsFor: string | undefined;
  /** Null if this host has its store for itself. */
  readonly registration: StatusReport['registration'];
  readonly inForce: StatusReport['inForce'];
  readonly flowCache: Pick<DatapathReport, 'flows' | 'flowLimit' | 'masks' | 'maskLimit' | 'refused' | 'evicted'>;
  readonly confirmation: StatusReport['confirmation'];
  /** What is cached is compared with what would be decided now. */
  readonly audit: StatusReport['audit'];
  /** Frames that ended because the datapath or a decision failed: a defect unless it is 0. */
  readonly lostUpcalls: number;
}

const RENEWED = 'weft up restores that every 5 s; if it cannot, `weft status` says why';
const PROBE_TIMEOUT_MS = 1000;
const OLDEST_KERNEL = [5, 4] as const;

export async function diagnose(environment: DoctorEnvironment): Promise<DoctorReport> {
  const checks = [
    ...checkCutOff(environment.hosts, environment.store),
    checkKernel(),
    checkTun(),
    checkCapabilities(),
    ...checkOffloads(environment.offloads),
    await checkState(environment.state),
    ...(environment.store ? checkStore(environment.store, environment.waitsFor) : []),
    ...checkMembership(environment),
    checkUpcalls(environment),
    checkAudit(environment),
    ...checkFlowCache(environment),
    ...(environment.outside ? checkOutside(await environment.outside()) : []),
    ...(await checkPublished(environment)),
    ...checkInternal(environment),
    ...environment.clashes.map((clash) => ({ check: 'clash', result: 'warning', ...clash }) as const),
    ...(await environment.policies()).map((doubt) => ({ check: 'policy', result: 'warning', ...doubt }) as const),
    ...environment.hooks.map(checkHook),
    ...checkRecords(environment),
    ...checkConfirmation(environment),
    ...(await checkEndpoints(environment)),
  ];
  const { underlay, tunnel } = environment;
  if (tunnel?.open === false) {
    const hint = 'weft up tries again every second, and networks of this host work meanwhile';
    checks.push({ check: 'tunnel', result: 'failed', detail: `waiting: ${tunnel.why}`, hint });
    return { checks };
  }
  if (underlay === undefined) {
    checks.push(ok('underlay', 'none: networks stay on this host (give --underlay and --peer to span hosts)'));
    return { checks };
  }
  checks.push(...(await checkUnderlay(environment, underlay)));
  checks.push(...(await Promise.all(environment.peers.map((peer) => checkPeer(environment, peer)))));
  for (const host of environment.hosts) checks.push(checkTunnel(host, environment));
  for (const [peer, path] of environment.paths) checks.push(checkPath(environment, peer, path));
  return { checks };
}

/** Without them, containers have no names. */
function checkInternal({ internal, waitsFor }: DoctorEnvironment): CheckReport[] {
  if (!internal) return [];
  const check = 'own sockets';
  const { open: isOpen, listening, why } = internal;
  if (isOpen) return [ok(check, `${listening.join(', ')} at the gateways`)];
  if (waitsFor !== undefined)
    return [{ check, result: 'failed', detail: `they are opened when the cluster is known: ${waitsFor}` }];
  return [{ check, result: 'failed', detail: why ?? 'they are not open yet', hint: RENEWED }];
}

function checkKernel(): CheckReport {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const [oldMajor, oldMinor] = OLDEST_KERNEL;
  if (major > oldMajor || (major === oldMajor && minor >= oldMinor)) return ok('kernel', `Linux ${release()}`);
  return {
    check: 'kernel',
    result: 'warning',
    detail: `Linux ${release()}`,
    hint: `Linux ${oldMajor}.${oldMinor} or later is what weft is tested with`,
  };
}

function checkTun(): CheckReport {
  try {
    requireTun();
    return ok('tun', '/dev/net/tun can be opened');
  } catch (error) {
    return { check: 'tun', result: 'failed', detail: (error as Error).message };
  }
}

function checkCapabilities(): CheckReport {
  const missing = missingCapabilities();
  if (missing.length === 0) return ok('rights', rightsText(threadCapabilities()));
  return {
    check: 'rights',
    result: 'failed',
    detail: `without ${missing.join(' and ')}`,
    hint: 'start weft up as root',
  };
}

function rightsText(threads: readonly ThreadCapabilities[]): string {
  const held = new Set(threads.flatMap((thread) => thread.held));
  const withMore = threads.filter(({ hasMore }) => hasMore).length;
  const without = threads.filter((thread) => thread.held.length === 0 && !thread.hasMore).length;
  return `${[...held].join(', ')}; of ${threads.length} threads, ${withMore} (of Node.js itself) with more, ${without} with none`;
}

/** None of these is required: without them, the same frames take more system calls. */
function checkOffloads({ udpSegment, udpGro, tapUso }: KernelOffloads): CheckReport[] {
  return [
    checkOffload('udp segment', udpSegment, {
      has: 'UDP_SEGMENT: a superframe goes into the tunnel with one call',
      lacks: 'no UDP_SEGMENT: superframes are sent into the tunnel a datagram at a time',
      since: '4.18',
    }),
    checkOffload('udp gro', udpGro, {
      has: 'UDP_GRO: the tunnel is received many datagrams at a time',
      lacks: 'no UDP_GRO: the tunnel is received a datagram at a time, and superframes are short',
      since: '5.0',
    }),
    checkOffload('tap uso', tapUso, {
      has: 'TUN_F_USO4 and TUN_F_USO6: superframes of UDP pass between containers uncut',
      lacks:
        'no TUN_F_USO4 and TUN_F_USO6: superframes of UDP are cut before a container gets them; TCP is not affected',
      since: '6.2',
    }),
  ];
}

function checkOffload(
  check: string,
  tried: Tried,
  { has, lacks, since }: { readonly has: string; readonly lacks: string; readonly since: string },
): CheckReport {
  if (tried === true) return ok(check, has);
  if (tried === false) return { check, result: 'warning', detail: lacks, hint: `Linux ${since} and later have it` };
  return {
    check,
    result: 'warning',
    detail: `could not be tried (${tried})`,
    hint: `Linux ${since} and later have it`,
  };
}

function checkUpcalls({ lostUpcalls }: DoctorEnvironment): CheckReport {
  if (lostUpcalls === 0) return ok('decisions', 'no decision failed');
  return {
    check: 'decisions',
    result: 'warning',
    detail: `${lostUpcalls} frames were lost while they waited for a decision`,
    hint: 'see the log of weft up for decisions that failed; if there are none, ports went while their frames waited',
  };
}

function checkConfirmation({ confirmation: { waiting, takenBack } }: DoctorEnvironment): CheckReport[] {
  const warning = (detail: string, hint: string): CheckReport => ({
    ...{ check: 'confirmation', result: 'warning', detail, hint },
  });
  const stayed = (takenBack?.left ?? []).map(({ resource, why }) => `${resource} (${why})`);
  const left =
    stayed.length === 0
      ? []
      : [
          warning(
            `when a change was taken back at ${takenBack!.at}, these stayed as they were: ${someOf(stayed)}`,
            'see whether they are as you want them',
          ),
        ];
  if (!waiting) return left;
  const { host, resources, isTakenBack } = waiting;
  const what = `a change of ${someOf(resources)}, made on host "${host}",`;
  if (isTakenBack)
    return [...left, warning(`${what} is being taken back`, 'if that does not end, see the log of weft up')];
  return [...left, warning(`${what} ${takenBackText(waiting)}`, '`weft confirm` keeps it')];
}

/** What is wrong was repaired already, but whatever made it so may do it again. */
function checkAudit({ audit }: DoctorEnvironment): CheckReport {
  const { flows, connections, mismatches, last } = audit;
  const seen = `${flows} times a cached flow and ${connections} times a connection was decided again`;
  if (!last) return ok('audit', `${seen}: all were as they are cached`);
  return {
    check: 'audit',
    result: 'warning',
    detail: `${seen}: ${mismatches} were not as they are cached, which was repaired. The latest one: ${last.what}: ${last.why}`,
    hint: 'this is a defect of weft: please report it, with the log of weft up',
  };
}

/** What does not fit into the flow cache is decided frame by frame: it still gets there, but takes the switch's time. */
function checkFlowCache({ flowCache }: DoctorEnvironment): CheckReport[] {
  const { flows, flowLimit, masks, maskLimit, refused, evicted } = flowCache;
  const checks: CheckReport[] = [];
  const warn = (check: string, detail: string, hint: string): void => {
    checks.push({ check, result: 'warning', detail, hint });
  };
  if (evicted.flows > 0 || refused.flows > 0) {
    warn(
      'cached flows',
      `${evicted.flows} flows gave way and ${refused.flows} were not cached, because ${flowLimit} are cached at most`,
      'raise flowLimit if the host has memory for it, and see in `weft flows` which port has most of them',
    );
  }
  if (evicted.masks > 0 || refused.masks > 0) {
    warn(
      'masks of flows',
      `${refused.masks} flows were not cached, so their frames were decided one by one, because all ${maskLimit} masks were in use; ${evicted.masks} masks gave way`,
      'see in `weft flows` which port has flows that differ most in the fields they use, and limit what it sends',
    );
  }
  if (refused.dropMasks > 0) {
    warn(
      'masks of drops',
      `${refused.dropMasks} drops were not cached, so their frames were decided one by one, because drops may use half of the ${maskLimit} masks at most`,
      'see in `weft drops` which port sends what is refused in so many ways',
    );
  }
  if (checks.length > 0) return checks;
  return [ok('flow cache', `${flows} of ${flowLimit} flows, ${masks} of ${maskLimit} masks, and none had to give way`)];
}

async function checkEndpoints({ endpoints }: DoctorEnvironment): Promise<CheckReport[]> {
  const { local, problems } = await endpoints();
  const wrong = Object.entries(problems);
  if (wrong.length === 0) return [ok('endpoints', `the interfaces of all ${local} are as weft configured them`)];
  return wrong.flatMap(([name, all]) =>
    all.map((detail) => ({ check: `endpoint ${name}`, result: 'warning' as const, detail })),
  );
}

function checkOutside({ nftFailure, open, forwarding, droppingChains, clash }: OutsideState): CheckReport[] {
  const checks: CheckReport[] = [];
  const failed = (check: string, detail: string, hint?: string): CheckReport => ({
    ...{ check, result: 'failed', detail },
    ...(hint !== undefined && { hint }),
  });
  if (nftFailure !== undefined) checks.push(failed('outside rules', nftFailure));
  else if (!open) checks.push(failed('outside rules', 'the outside is not open', RENEWED));
  else checks.push(factCheck('outside rules', open.rules, 'table inet weft'));
  if (open) checks.push(factCheck('outside link', open.link, 'weft0'));
  const off = [
    ...(forwarding.ip4 ? [] : ['net.ipv4.ip_forward']),
    ...(forwarding.ip6 === false ? ['net.ipv6.conf.all.forwarding'] : []),
  ];
  checks.push(
    off.length === 0
      ? ok('outside forwarding', `on${forwarding.ip6 === undefined ? ', of IPv4 alone: the host has no IPv6' : ''}`)
      : failed(
          'outside forwarding',
          `${off.join(' and ')} switched off: nothing passes between containers and what is beyond this host`,
          `sysctl -w ${off.map((name) => `${name}=1`).join(' ')}`,
        ),
  );
  if (droppingChains.length > 0) {
    checks.push({
      check: 'outside firewall',
      result: 'warning',
      detail: `${droppingChains.join(', ')}: drops packets that no rule accepts, and weft cannot accept packets on behalf of another table`,
      hint: 'accept packets from and to weft0 there (with Docker, in its chain DOCKER-USER); if you have, ignore this warning, since weft only looks at the policy',
    });
  }
  if (clash !== undefined) checks.push(failed('outside addresses', clash));
  return checks;
}

/** @param differences from what it should be @param right the detail if there are none */
function factCheck(check: string, differences: readonly string[], right: string): CheckReport {
  if (differences.length === 0) return ok(check, right);
  return {
    check,
    result: 'failed',
    detail: `${differences.join('; ')}: another program has changed it`,
    hint: RENEWED,
  };
}

/** An address that floats between hosts may still come, so it is not refused; until then the port is closed. */
async function checkPublished({ published, ownAddresses }: DoctorEnvironment): Promise<CheckReport[]> {
  const bound = published.filter(({ hostIp }) => hostIp !== undefined);
  if (bound.length === 0) return [];
  const own = await ownAddresses();
  return bound
    .filter(({ hostIp }) => !own.has(hostIp!))
    .map(({ endpoint, hostIp, ...port }) => ({
      check: `published ${endpoint}`,
      result: 'warning',
      detail: `${hostIp} is not an address of this host: ${portText(port)} of endpoint "${endpoint}" is not reached there`,
      hint: 'give the address to an interface of this host, or publish the port on another',
    }));
}

async function checkUnderlay(environment: DoctorEnvironment, underlay: string): Promise<CheckReport[]> {
  let found: UnderlayInterface | undefined;
  try {
    found = await environment.underlayInterface();
  } catch (error) {
    return [
      {
        check: 'underlay',
        result: 'failed',
        detail: (error as Error).message,
        hint: 'give the address back to an interface, or restart with another --underlay',
      },
    ];
  }
  const { name, mtu } = found!;
  const checks = [ok('underlay', `${underlay} on ${name}, MTU ${mtu}`)];
  for (const network of environment.networks) {
    const needed = network.mtu + environment.encapBytes;
    checks.push(
      needed <= mtu || found!.isLoopback
        ? ok(`mtu ${network.name}`, `${network.mtu}, and ${environment.encapBytes} for encapsulation, fits ${mtu}`)
        : {
            check: `mtu ${network.name}`,
            result: 'warning',
            detail: `${network.mtu}, and ${environment.encapBytes} for encapsulation, exceeds ${mtu} of ${name}: ${tooLargeText([network.name], mtu - environment.encapBytes)}`,
            hint: `raise the MTU of ${name} to ${needed}, or create the network with --mtu ${mtu - environment.encapBytes}`,
          },
    );
  }
  return checks;
}

async function checkPeer({ probe, vxlanPort }: DoctorEnvironment, peer: string): Promise<CheckReport> {
  const check = `peer ${peer}`;
  if (!probe)
    return { check, result: 'warning', detail: 'not probed', hint: 'install the optional package raw-socket' };
  const { isReachable, roundTripMs, why } = await probe(peer, PROBE_TIMEOUT_MS);
  if (isReachable) return ok(check, `answers ICMP echo in ${roundTripMs!.toFixed(1)} ms`);
  return {
    check,
    result: 'warning',
    detail: why ?? 'no answer',
    hint: `check routes and firewalls between the hosts (ICMP echo, UDP ${vxlanPort})`,
  };
}

/** Whether frames get through the tunnel to this host, and back. */
function checkTunnel(
  { underlay, state, why, since, roundTripMs, lossIn, lossOut }: HostReport,
  { vxlanPort, store }: DoctorEnvironment,
): CheckReport {
  const check = `tunnel ${underlay}`;
  if (state === 'unprobed') {
    const key = store ? '' : ', and give both the same key (`weft key`), so that they see it themselves';
    return {
      check,
      result: 'warning',
      detail: `nobody knows whether frames arrive: ${why}`,
      hint: `let UDP ${vxlanPort} through between the hosts${key}; what is not weft never answers`,
    };
  }
  if (state !== 'up') {
    return {
      check,
      result: 'failed',
      detail: `${state} since ${since}: ${why}`,
      hint: `see whether the host is alive, and let UDP ${vxlanPort} through between the hosts`,
    };
  }
  const lost = `${lossIn.lost} of ${lossIn.of} probes from it were lost, and ${lossOut.lost} of ${lossOut.of} to it`;
  const detail = `${roundTripMs === null ? '' : `answers probes in ${roundTripMs.toFixed(1)} ms; `}${lost}`;
  if (lossIn.lost === 0 && lossOut.lost === 0) return ok(check, detail);
  return { check, result: 'warning', detail, hint: 'see what loses packets on the underlay between the hosts' };
}

function checkPath({ networks, encapBytes, probe }: DoctorEnvironment, peer: string, path: Path): CheckReport {
  const { mtu, source, isConfirmed } = path;
  const check = `path ${peer}`;
  const larger = networks.filter((network) => network.mtu + encapBytes > mtu).map(({ name }) => name);
  const lost = source === 'probed' ? ' (found by probes: larger ones are lost)' : '';
  if (larger.length > 0) {
    return {
      check,
      result: 'warning',
      detail: `MTU ${mtu}${lost}: ${tooLargeText(larger, mtu - encapBytes)}`,
      hint: 'raise the MTU on the way to this host',
    };
  }
  if (isConfirmed) return ok(check, `MTU ${mtu}${lost}`);
  const detail = `MTU ${mtu}, as the kernel knows it: where ICMP errors are lost, so are larger packets`;
  return {
    check,
    result: 'warning',
    detail,
    hint: probe ? 'let ICMP echo through between the hosts' : 'install the optional package raw-socket',
  };
}

/** What happens to packets of these networks that are too large for the path. */
function tooLargeText(networks: readonly string[], mostBytes: number): string {
  return `packets of ${networks.join(', ')} over ${mostBytes} bytes do not pass, their senders are told`;
}

function checkRecords({ refusedRecords, refusedRecordCount }: DoctorEnvironment): CheckReport[] {
  const check = (detail: string, hint = REFUSED_HINT): CheckReport => ({
    ...{ check: 'record', result: 'warning', detail, hint },
  });
  const more = moreRefusedText(refusedRecordCount, refusedRecords.length);
  const named = refusedRecords.map((refused) => check(refusedRecordText(refused), refused.hint));
  return [...named, ...more.map((detail) => check(detail))];
}

function checkHook({ name, file, state, why, onError, failures, quarantines }: HookReport): CheckReport {
  const check = `hook ${name}`;
  const hint = `mend ${file}: \`weft hook check\` finds what is wrong with its text`;
  const then = onError === 'deny' ? 'what it cannot judge is denied' : 'what it cannot judge passes';
  if (state !== 'in_force') return { check, result: 'failed', detail: `${why}: ${then}`, hint };
  if (why !== undefined) return { check, result: 'warning', detail: `an older version is in force: ${why}`, hint };
  if (failures + quarantines === 0) return ok(check, 'in force');
  const detail = `has failed about ${failures} flows, and was in quarantine ${quarantines} times: ${then}`;
  return { check, result: 'warning', detail, hint: 'the log of `weft up` tells the first failure' };
}

function ok(check: string, detail: string): CheckReport {
  return { check, result: 'ok', detail };
}
