/**
 * Floods: what an untrusted container, or anybody on the underlay, may send, at 20,000 frames a
 * second or as fast as possible, and what the others notice.
 *
 * What the others get is compared with a benign flood of the same rate: frames of one flow that
 * everybody may have. So limits of the machine do not count against weft, and the cost of a
 * refusal becomes visible.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from '../support/process.ts';
import { MIB, mib, residentBytes } from './memory.ts';
import { Stage, type Place } from './stage.ts';
import type { LoadOptions, Report, Scenario } from './scenario.ts';

const modes = {
  container: [
    ...['spoofed-ip4', 'spoofed-ip6', 'spoofed-mac', 'spoofed-arp', 'spoofed-nd'],
    ...['unknown-mac', 'scan', 'ports', 'syn', 'udp-outside', 'arp', 'ttl', 'icmp-errors', 'fragments'],
    ...['ethertypes', 'headers', 'vip-ports', 'vip-syn'],
  ],
  policies: ['scan', 'ports', 'headers'],
  tunnel: ['unknown-vteps', 'unknown-vnis', 'peer-macs', 'peer-destinations', 'peer-ports'],
} as const satisfies Record<Place, readonly string[]>;
const rates = { '20000': 20_000, unlimited: 0 } as const;

const NEW_FLOWS_PER_SECOND = 25;
const MEMORY_LIMIT_BYTES = 256 * MIB;

const promises = {
  newFlowMs: 500,
  newFlowPart: 0.99,
  newFlowTimes: 3,
  requestsPart: { container: 0.8, policies: 0.9, tunnel: 0.8 },
  grownBytes: 64 * MIB,
  keptBytes: 32 * MIB,
  /** At most, after the flood. */
  keptAfterSeconds: 60,
  statusMs: 200,
} as const;

interface NewFlows {
  readonly asked: number;
  readonly answered: number;
  readonly p50Ms: number;
}

/** Observations during one flood. */
interface Seen {
  readonly sentPerSecond: number;
  readonly newFlows: Readonly<Record<string, NewFlows>>;
  readonly requestsPerSecond: number;
  readonly statusMs: number;
  readonly startBytes: number;
  readonly mostBytes: number;
  readonly laterBytes: number;
  readonly isAlive: boolean;
  readonly drops: string;
}

/** What others get during a benign flood, by place, rate and duration. */
const benign = new Map<string, Promise<Seen>>();

export const floods: readonly Scenario[] = (['container', 'policies', 'tunnel'] as const).flatMap((place) =>
  Object.entries(rates).flatMap(([name, rate]) => [
    ...modes[place].map((mode) => ({
      name: `flood/${place}/${mode}/${name}`,
      run: (report: Report, options: LoadOptions) => compare(report, place, mode, rate, options),
    })),
    ...modes[place].map((mode) => ({
      name: `memory-limit/${place}/${mode}/${name}`,
      run: (report: Report, options: LoadOptions) => survive(report, place, mode, rate, options),
    })),
  ]),
);

async function compare(
  report: Report,
  place: Place,
  mode: string,
  rate: number,
  { seconds }: LoadOptions,
): Promise<void> {
  const id = `${place}/${rate}/${seconds}`;
  let usual = benign.get(id);
  if (!usual) {
    usual = flood(place, 'benign', rate, seconds, 0);
    benign.set(id, usual);
    report.figure(`benign: ${textOf(await usual)}`);
  }
  const base = await usual;
  const seen = await flood(place, mode, rate, seconds, Math.min(seconds, promises.keptAfterSeconds));
  report.figure(textOf(seen));
  report.must(seen.isAlive, 'the daemon lives');
  for (const [way, { asked, answered, p50Ms }] of Object.entries(seen.newFlows)) {
    const usualMs = base.newFlows[way]!.p50Ms;
    report.must(
      answered >= promises.newFlowPart * asked,
      `new flows, ${way}: ${((100 * answered) / asked).toFixed(1)} % of ${asked} within ${promises.newFlowMs} ms`,
    );
    report.must(
      answered > 0 && p50Ms <= promises.newFlowTimes * usualMs,
      `new flows, ${way}: p50 ${p50Ms.toFixed(2)} ms, ${(p50Ms / usualMs).toFixed(1)} times the usual ${usualMs.toFixed(2)}`,
    );
  }
  const part = seen.requestsPerSecond / base.requestsPerSecond;
  report.must(
    part >= promises.requestsPart[place],
    `requests: ${part.toFixed(2)} of the usual ${base.requestsPerSecond.toFixed(0)}/s`,
  );
  const [grown, kept] = [seen.mostBytes - seen.startBytes, seen.laterBytes - seen.startBytes];
  report.must(grown <= promises.grownBytes, `memory: ${mib(grown)} more than the ${mib(seen.startBytes)} at the start`);
  report.must(kept <= promises.keptBytes, `memory later: ${mib(kept)} more`);
  report.must(seen.statusMs <= promises.statusMs, `status: ${seen.statusMs.toFixed(0)} ms at most`);
}

async function survive(
  report: Report,
  place: Place,
  mode: string,
  rate: number,
  { seconds }: LoadOptions,
): Promise<void> {
  const seen = await flood(place, mode, rate, seconds, 0, MEMORY_LIMIT_BYTES);
  report.figure(textOf(seen));
  report.must(seen.isAlive, `the daemon lives with ${mib(MEMORY_LIMIT_BYTES)} of memory`);
}

function flood(
  place: Place,
  mode: string,
  rate: number,
  seconds: number,
  laterSeconds: number,
  memoryBytes?: number,
): Promise<Seen> {
  return Stage.with(
    place,
    async (stage) => {
      const { weft } = stage;
      const { pid } = weft;
      const startBytes = residentBytes(pid);
      let [mostBytes, statusMs] = [startBytes, 0];
      const attack = await stage.flood(place, { mode, rate, seconds });
      const flows = stage.newFlows(place, { rate: NEW_FLOWS_PER_SECOND, seconds, inTimeMs: promises.newFlowMs });
      const requests = await stage.requests(place, seconds - 0.5);
      while (attack.isRunning && isAlive(pid)) {
        const askedAt = performance.now();
        await weft.client.status().catch(() => {});
        statusMs = Math.max(statusMs, performance.now() - askedAt);
        mostBytes = Math.max(mostBytes, residentBytes(pid));
        await delay(100);
      }
      await Promise.all([attack, requests, ...Object.values(flows)].map((program) => program.wait()));
      await delay(laterSeconds * 1000);
      const status = await weft.status().catch(() => undefined);
      const { transactions, seconds: took } = resultOf(requests) as { transactions: number; seconds: number };
      return {
        sentPerSecond: (resultOf(attack) as { perSecond: number }).perSecond,
        newFlows: Object.fromEntries(Object.entries(flows).map(([way, asked]) => [way, resultOf(asked) as NewFlows])),
        requestsPerSecond: transactions / took,
        statusMs,
        startBytes,
        mostBytes,
        laterBytes: residentBytes(pid),
        isAlive: isAlive(pid) && status !== undefined,
        drops: (status?.ports ?? []).map(({ name, drops }) => `${name} ${JSON.stringify(drops)}`).join(', '),
      };
    },
    memoryBytes,
  );
}

function resultOf(program: { readonly stdout: string; readonly stderr: string }): unknown {
  if (program.stdout === '') throw new Error(program.stderr);
  return JSON.parse(program.stdout.trim().split('\n').at(-1)!);
}

function textOf(seen: Seen): string {
  const flows = Object.entries(seen.newFlows).map(
    ([way, { asked, answered, p50Ms }]) => `${way} ${answered}/${asked} p50 ${p50Ms.toFixed(2)} ms`,
  );
  const memory = `memory ${mib(seen.startBytes)}, ${mib(seen.mostBytes)}, ${mib(seen.laterBytes)}`;
  const rest = `requests ${seen.requestsPerSecond.toFixed(0)}/s, status ${seen.statusMs.toFixed(0)} ms, ${memory}`;
  return `${seen.sentPerSecond} frames/s; new flows ${flows.join(', ')}; ${rest}; drops ${seen.drops}`;
}
