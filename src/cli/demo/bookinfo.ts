/**
 * Services, shown with the four programs of examples/bookinfo on two hosts. A visitor asks `productpage` for a page all the
 * time: four connections through services for most of them, each to a name.
 *
 *   1. names       every program finds the others by their names
 *   2. shares      the versions of `reviews` share its connections
 *   3. split       a VirtualService shares them otherwise, and is deleted
 *   4. drain       a backend gets no new connections, and keeps those that it has
 *   5. failure     a backend whose connections fail is ejected, and comes back when its time is over
 *   6. host lost   beta loses its power: what is on alpha goes on
 *   7. host back   beta has power again, and its backends are used again
 *   8. what happened when, and what was lost
 */
import type { ChildProcess } from 'node:child_process';
import { Client } from '../../api/client.ts';
import { WeftError } from '../../error.ts';
import type { ServiceBackendReport } from '../../model/service-report.ts';
import { write } from '../print.ts';
import { found } from './commands.ts';
import { containersOf, manifestHere, programIn } from './example.ts';
import { onHost, show, weft } from './on-host.ts';
import type { Host, Plan } from './plan.ts';
import { say } from './say.ts';
import * as stage from './stage.ts';
import { Steps } from './steps.ts';
import { Timeline } from './timeline.ts';
import { Visitor } from './visitor.ts';

const PAGE = 'productpage:9080/products/0';
const REVIEWS = 'reviews:9080/reviews/0';
const versions = ['v1', 'v2', 'v3'] as const;
/** What runs besides, each in a container. */
const programs = ['productpage', 'details', 'ratings'] as const;

/** How long what has to happen may take, on a machine that has other things to do, too. */
const SOON_MS = 15_000;
/** Longer than the rule ejects a backend the first time. */
const EJECTED_MS = 20_000;
/** Pages that are asked for before the next step. */
const CALM_PAGES = 20;
/** Connections whose shares are counted, and how many of them at a time. */
const COUNTED = 300;
const AT_ONCE = 8;
/** How far a share of them may be from what it should be; by chance, it is so once in a million times. */
const SHARE_TOLERANCE = 0.13;
/** What traffic/90-10.yaml says, and how far a share may be from it; by chance, it is so once in ten thousand times. */
const SPLIT = { v1: 0.9, v2: 0, v3: 0.1 } as const;
const SPLIT_MANIFEST = 'traffic/90-10.yaml';
const SPLIT_TOLERANCE = 0.07;
const DRAINING = 'weft.dev/drain';
const FAILING = 'reviews-v3';
/** Of a backend that fails: the rule says after how many failures it is ejected, and some more are under way by then. */
const FAILED_WITH_BACKEND = 10;
/** Of a host that is lost: what had begun, and what begins before it is known. */
const FAILED_WITH_HOST = 60;
/** When the others have to know, at the latest, and nothing may fail any more. */
const KNOWN_MS = 3000;

/** @returns what people can look at while it goes on */
export async function bookinfo(plan: Plan, signal: AbortSignal): Promise<string[]> {
  const [alpha, beta] = plan.hosts as [Host, Host];
  await setUp(alpha, beta, signal);
  const running = new Map(await Promise.all(versions.map((version) => startReviews(version, signal))));
  const timeline = new Timeline();
  const visitor = new Visitor([PAGE], signal);
  const steps = new Steps({
    between: (fromMs, toMs) => visitor.between(fromMs, toMs),
    settled: async (atMs) => void (await until(() => visitor.hasAllBefore(atMs), 'all requests have ended', SOON_MS)),
  });
  timeline.zero('tester', `begins to ask for ${PAGE}`);
  try {
    await say('every program finds the others by their names');
    await steps.take('names', 0, names);
    await say('the versions of reviews share its connections');
    await steps.take('shares', 0, shares);
    await say('a VirtualService gives one in ten of them to v3, and the others to v1');
    await steps.take('split', 0, split);
    await say('a backend of reviews is drained');
    await steps.take('drain', 0, drain);
    await say(`the program of ${FAILING} is killed`);
    await steps.take('failure', FAILED_WITH_BACKEND, failure);
    await say(`${beta.name} loses its power`);
    await steps.take('host lost', FAILED_WITH_HOST, hostLost);
    await say(`${beta.name} has power again`);
    await steps.take('host back', 0, hostBack);
  } finally {
    if (!signal.aborted) {
      await visitor.stop();
      await write(`\n${await timeline.text()}\n${await steps.text()}\n`);
    }
  }
  steps.requireAll();
  return [
    onHost(alpha, 'services'),
    onHost(alpha, 'services reviews'),
    onHost(alpha, 'connections'),
    `ip netns exec ${stage.namespaceOf('tester')} curl -s http://${REVIEWS}`,
    `ip netns exec ${stage.namespaceOf('tester')} curl -s http://productpage:9080/productpage`,
  ];

  async function names(fromMs: number): Promise<string> {
    const first = await until(() => visitor.between(fromMs)[0], 'a first page', SOON_MS);
    timeline.note('tester', 'has the first page', first.endMs);
    await until(() => visitor.between(fromMs).length >= CALM_PAGES, `${CALM_PAGES} pages`, SOON_MS);
    await until(() => reviewersSince(fromMs).size === versions.length, 'pages with all reviews', SOON_MS);
    return `the first page after ${first.endMs - fromMs} ms`;
  }

  async function shares(): Promise<string> {
    const counts = await countReviews();
    requireShares(counts, { v1: 1 / 3, v2: 1 / 3, v3: 1 / 3 }, SHARE_TOLERANCE);
    timeline.note('tester', `has asked reviews ${COUNTED} times: ${countsText(counts)}`);
    return countsText(counts);
  }

  async function split(): Promise<string> {
    timeline.note(alpha.name, `weft apply -f ${SPLIT_MANIFEST} --wait`);
    await weft(alpha, ['apply', '-f', manifestHere(SPLIT_MANIFEST), '--wait'], signal);
    const counts = await countReviews();
    requireShares(counts, SPLIT, SPLIT_TOLERANCE);
    timeline.note('tester', `has asked reviews ${COUNTED} times: ${countsText(counts)}`);
    await weft(alpha, ['delete', 'virtualservice', 'reviews'], signal);
    timeline.note(alpha.name, 'weft delete virtualservice reviews');
    return countsText(counts);
  }

  /** One that has a connection is drained, so that it is seen how that goes on. */
  async function drain(): Promise<string> {
    const held = new Visitor([REVIEWS, '--keep'], signal);
    try {
      const first = await until(() => held.between(0)[0], 'an answer', SOON_MS);
      const draining = first.reviewedBy ?? '';
      timeline.note(alpha.name, `weft label endpoint ${draining} ${DRAINING}=true: the tester has a connection to it`);
      await weft(alpha, ['label', 'endpoint', draining, `${DRAINING}=true`], signal);
      await until(async () => (await backend(draining))?.state !== 'ready', `${draining} drains`, SOON_MS);
      const fromMs = Date.now();
      await until(() => visitor.between(fromMs).length >= CALM_PAGES, `${CALM_PAGES} pages`, SOON_MS);
      const toMs = Date.now();
      const isNew = ({ reviewedBy }: { readonly reviewedBy?: string }): boolean => reviewedBy === draining;
      const late = visitor.between(fromMs, toMs).filter(isNew).length;
      if (late > 0) throw new WeftError('system', `${draining} got ${late} new connections`);
      await showReviews();
      const kept = held.between(0);
      const others = kept.filter((request) => !isNew(request)).length;
      if (others > 0) throw new WeftError('system', `${others} answers over the connection are not from ${draining}`);
      timeline.note('tester', `over its connection, ${draining} has answered ${kept.length} times`);
      await weft(alpha, ['label', 'endpoint', draining, `${DRAINING}-`], signal);
      const backMs = Date.now();
      await until(() => reviewersSince(backMs).has(draining), `${draining} is used again`, SOON_MS);
      timeline.note('tester', `${draining} answers new connections again`);
      return `${draining} got no new connections, and kept the one that it had`;
    } finally {
      await held.stop();
    }
  }

  /** The rule ejects it: the DestinationRule of traffic/subsets.yaml. */
  async function failure(fromMs: number): Promise<string> {
    timeline.note(FAILING, 'its program is killed: connections to it are refused', fromMs);
    running.get(FAILING)!.kill('SIGKILL');
    await until(async () => (await backend(FAILING))?.state === 'ejected', `${FAILING} is ejected`, SOON_MS);
    timeline.note(alpha.name, `ejects ${FAILING}`);
    await showReviews();
    const ejectedMs = Date.now();
    // It comes back by itself, which a slow machine sees before it has the pages.
    let lastSeenMs = ejectedMs;
    const isCalm = async (): Promise<boolean> => {
      const atMs = Date.now();
      if ((await backend(FAILING))?.state === 'ejected') lastSeenMs = atMs;
      return visitor.between(ejectedMs).length >= CALM_PAGES;
    };
    await until(isCalm, `${CALM_PAGES} pages`, SOON_MS);
    const failed = visitor.between(fromMs).filter(({ failed }) => failed !== undefined);
    const late = failed.filter(({ atMs }) => atMs > ejectedMs && atMs < lastSeenMs).length;
    if (late > 0) throw new WeftError('system', `${late} requests failed that began when it was ejected`);
    await startReviews('v3', signal);
    timeline.note(FAILING, 'its program is started again');
    const againMs = Date.now();
    await until(() => reviewersSince(againMs).has(FAILING), `${FAILING} is used again`, EJECTED_MS);
    timeline.note('tester', `${FAILING} answers again`);
    return `${FAILING} was ejected after ${failed.length} failures, and came back`;
  }

  async function hostLost(fromMs: number): Promise<string> {
    timeline.note(beta.name, 'loses its power: nothing comes from it any more', fromMs);
    await stage.cutPower(beta, signal);
    await until(async () => (await backend('reviews-v2'))?.state === 'host down', `${alpha.name} knows it`, SOON_MS);
    timeline.note(alpha.name, `knows that ${beta.name} is down`);
    await showReviews();
    const knownMs = Date.now();
    await until(() => visitor.between(knownMs).length >= CALM_PAGES, `${CALM_PAGES} pages`, SOON_MS);
    const failed = visitor.between(fromMs).filter(({ failed }) => failed !== undefined);
    const lastMs = Math.max(fromMs, ...failed.map(({ atMs }) => atMs));
    timeline.note('tester', 'the last request that failed began', lastMs);
    if (lastMs - fromMs > KNOWN_MS)
      throw new WeftError(
        'system',
        `requests fail that began ${lastMs - fromMs} ms after it, and not ${KNOWN_MS} at most`,
      );
    return `none failed that began later than ${lastMs - fromMs} ms after it`;
  }

  async function hostBack(): Promise<string> {
    timeline.note(beta.name, 'has power again, and weft up is started');
    await stage.restorePower(beta, signal);
    await stage.startDaemon(beta, plan, signal);
    const forwardsMs = Date.now();
    timeline.note(beta.name, 'forwards');
    const isBack = (): boolean => versions.every((version) => reviewersSince(forwardsMs).has(`reviews-${version}`));
    await until(isBack, 'all reviews answer', SOON_MS);
    timeline.note('tester', 'reviews-v2 and reviews-v3 have answered again');
    return `its backends answer ${Date.now() - forwardsMs} ms after it forwards`;
  }

  /** Who has answered requests that began after that time. */
  function reviewersSince(atMs: number): Set<string> {
    return new Set(
      visitor.between(atMs).flatMap(({ reviewedBy, failed }) => (failed === undefined && reviewedBy) || []),
    );
  }

  async function countReviews(): Promise<Map<string, number>> {
    const asking = new Visitor([REVIEWS, '--count', String(COUNTED), '--at-once', String(AT_ONCE)], signal);
    await asking.ended();
    const counts = new Map<string, number>();
    for (const { reviewedBy, failed } of asking.between(0)) {
      if (failed !== undefined) throw new WeftError('system', `a request to reviews failed: ${failed}`);
      counts.set(reviewedBy ?? '', (counts.get(reviewedBy ?? '') ?? 0) + 1);
    }
    return counts;
  }

  async function showReviews(): Promise<void> {
    await show(alpha, ['services', 'reviews'], 'weft services reviews', signal);
    await write('\n');
  }

  /** A backend of `reviews` as alpha sees it. */
  async function backend(endpoint: string): Promise<ServiceBackendReport | undefined> {
    const [reviews] = await new Client(stage.socketOf(alpha)).services('reviews');
    return reviews?.backends.find((one) => one.endpoint === `default/${endpoint}`);
  }

  function until<T>(look: () => T | Promise<T>, what: string, timeoutMs: number): Promise<NonNullable<T>> {
    return found(look, { what, timeoutMs, signal });
  }
}

/** Declares the endpoints and services, and starts the programs. */
async function setUp(alpha: Host, beta: Host, signal: AbortSignal): Promise<void> {
  for (const [host, manifest] of [
    [alpha, 'network.yaml'],
    [alpha, 'alpha.yaml'],
    [beta, 'beta.yaml'],
    [alpha, 'services.yaml'],
    [alpha, 'traffic/subsets.yaml'],
  ] as const) {
    await say(`weft apply -f ${manifest} --wait on ${host.name}`);
    for (const name of containersOf(manifest)) await stage.addNamespace(name, signal);
    await weft(host, ['apply', '-f', manifestHere(manifest), '--wait'], signal);
  }
  await say('productpage, details, ratings and reviews v1, v2, v3 start, each in its container');
  const starting = programs.map((program) =>
    stage.startProgram(`${program}-v1`, programIn(`${program}-v1`, program), signal),
  );
  await Promise.all(starting);
}

async function startReviews(version: (typeof versions)[number], signal: AbortSignal): Promise<[string, ChildProcess]> {
  const name = `reviews-${version}`;
  return [name, await stage.startProgram(name, programIn(name, 'reviews', { VERSION: version }), signal)];
}

/** @throws WeftError if a version has another share, or any where none is due */
function requireShares(
  counts: ReadonlyMap<string, number>,
  due: Readonly<Record<(typeof versions)[number], number>>,
  tolerance: number,
): void {
  for (const version of versions) {
    const share = shareOf(version, counts);
    const isDue = due[version] === 0 ? share === 0 : Math.abs(share - due[version]) <= tolerance;
    if (!isDue)
      throw new WeftError(
        'system',
        `reviews-${version} has ${percent(share)} of the connections, and not ${percent(due[version])}`,
      );
  }
}

function shareOf(version: (typeof versions)[number], counts: ReadonlyMap<string, number>): number {
  return (counts.get(`reviews-${version}`) ?? 0) / COUNTED;
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

/** `v1 33%, v2 34%, v3 33%` */
function countsText(counts: ReadonlyMap<string, number>): string {
  return versions.map((version) => `${version} ${percent(shareOf(version, counts))}`).join(', ');
}
