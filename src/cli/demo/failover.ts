/**
 * A host loses its power, and what happens then. Nobody tells the others: they have to notice.
 *
 *   1. containers ping each other all the time, some of them on the host that will fail
 *   2. the last host loses its power, in the middle of everything
 *   3. the others notice; what does not need that host goes on
 *   4. one of its containers is started on another host, which takes it over: it has its addresses and its MAC there.
 *      Whoever knows that the host is gone does not wait until its lease has ended, as an attach without --move has to
 *   5. the host has power again, and comes back
 *   6. what happened when, and what was lost
 */
import { Client } from '../../api/client.ts';
import { WeftError } from '../../error.ts';
import type { HostInForceReport } from '../../model/report.ts';
import { table, write } from '../print.ts';
import { eventually, found, run } from './commands.ts';
import { EVERY_MS, PingStream } from './ping-stream.ts';
import { buildOverlay, explorations } from './overlay.ts';
import { network, type Container, type Host, type Plan } from './plan.ts';
import { say } from './say.ts';
import * as stage from './stage.ts';
import { Timeline } from './timeline.ts';

/** Pings before anything happens. */
const CALM_PINGS = 40;
/** How long something may take that depends on a lease of the store. */
const LEASE_MS = 60_000;
const SOON_MS = 30_000;
/** The namespace of the container that is started again; its name is taken by what was on the host that failed. */
const AGAIN = 'again';

/** @returns what people can look at while it goes on */
export async function failover(plan: Plan, signal: AbortSignal): Promise<string[]> {
  const { containers } = await buildOverlay(plan, signal);
  await say('all of them answer');
  const [alpha, beta] = plan.hosts as [Host, Host];
  const victim = plan.hosts.at(-1)!;
  const survivors = plan.hosts.filter((host) => host !== victim);
  const on = (host: Host): [Container, Container] =>
    containers.filter((container) => container.host === host) as [Container, Container];
  const [web, db] = on(alpha);
  const [api] = on(beta);
  const [moving, waiting] = on(victim);
  const timeline = new Timeline();

  await say(`containers ping each other every ${EVERY_MS} ms`);
  const streamOf = (from: Container, to: Container): PingStream =>
    new PingStream(from.name, { name: to.name, ip: to.ip4 }, signal);
  const untouched = [streamOf(web, db), streamOf(web, api), streamOf(api, web)];
  const toMoving = streamOf(web, moving);
  const toWaiting = streamOf(api, waiting);
  const streams = [...untouched, toMoving, toWaiting];
  const over = new AbortController();
  try {
    await until(() => streams.every(({ answered }) => answered >= CALM_PINGS), 'all pings are answered', SOON_MS);

    await say(`${victim.name} loses its power`);
    timeline.zero(victim.name, 'loses its power: nothing comes from it any more');
    await stage.cutPower(victim, signal);
    const noticing = survivors.map((host) => notice(host, victim, timeline, AbortSignal.any([signal, over.signal])));
    await Promise.all(noticing.map(({ isDown }) => isDown));

    await say(`${moving.name} is started on ${beta.name}`);
    await stage.addNamespace(AGAIN, signal);
    const attachedMs = Date.now();
    timeline.note(beta.name, `weft attach ${moving.name} --move: it gets its addresses and its MAC here`);
    const attach = ['attach', moving.name, '--network', network.name, '--netns', stage.namespaceOf(AGAIN), '--move'];
    await run([...stage.weft, '--socket', stage.socketOf(beta), ...attach], signal);
    const movedMs = await until(() => toMoving.answerAfter(attachedMs), `${moving.name} answers`, SOON_MS);
    timeline.note(web.name, `${moving.name} answers, on ${beta.name}`, movedMs);

    await Promise.all(noticing.map(({ isExpired }) => isExpired));
    await say(`${victim.name} has power again`);
    timeline.note(victim.name, 'has power again, and weft up is started');
    const restoredMs = Date.now();
    await stage.restorePower(victim, signal);
    await stage.startDaemon(victim, plan, signal);
    timeline.note(victim.name, 'forwards');
    const backMs = await until(() => toWaiting.answerAfter(restoredMs), `${waiting.name} answers`, SOON_MS);
    timeline.note(api.name, `${waiting.name} on ${victim.name} answers`, backMs);
    await Promise.all(survivors.map((host) => until(() => isBack(host, victim), `${host.name} sees it`, SOON_MS)));
    timeline.note(survivors.map(({ name }) => name).join(', '), `${victim.name} has everything in force again`);
  } finally {
    over.abort();
    await Promise.all(streams.map((stream) => stream.stop()));
  }
  await write(
    `\n${await timeline.text()}\n${await lossText(untouched, [toMoving, toWaiting], victim)}${await dropsText(beta)}\n`,
  );
  return explorations(plan, containers);

  function until<T>(look: () => T | Promise<T>, what: string, timeoutMs: number): Promise<NonNullable<T>> {
    return found(look, { what, timeoutMs, signal });
  }
}

/** Notes when `host` knows that the other one is down, and when the store has given that one up. */
function notice(
  host: Host,
  victim: Host,
  timeline: Timeline,
  signal: AbortSignal,
): { readonly isDown: Promise<void>; readonly isExpired: Promise<void> } {
  const untilIt = (isSo: (seen: HostInForceReport) => boolean, what: string): Promise<void> =>
    eventually(
      async () => {
        const seen = await stateOn(host, victim);
        if (!seen || !isSo(seen)) throw new WeftError('system', `${host.name} does not notice ${victim.name}`);
        timeline.note(host.name, what);
      },
      LEASE_MS,
      signal,
    );
  const isExpired = untilIt(({ since }) => since !== undefined, `the lease of ${victim.name} has ended in the store`);
  // It is waited for later, and not at all if something else fails before.
  isExpired.catch(() => {});
  return { isDown: untilIt(({ state }) => state === 'down', `knows that ${victim.name} is down`), isExpired };
}

async function isBack(host: Host, victim: Host): Promise<boolean> {
  return (await stateOn(host, victim))?.state === 'in force';
}

/** What `host` knows of another one. */
async function stateOn(host: Host, other: Host): Promise<HostInForceReport | undefined> {
  const { inForce } = await new Client(stage.socketOf(host)).status();
  return inForce?.hosts.find((one) => one.host === other.name);
}

/** What a host has dropped because it knew that the other one was down. */
async function dropsText(host: Host): Promise<string> {
  const drops = await new Client(stage.socketOf(host)).drops();
  return drops
    .filter(({ reason }) => reason === 'vtep_down')
    .map(
      ({ port, count, reason, text }) => `${host.name} has dropped ${count} frames of ${port} as ${reason}: ${text}\n`,
    )
    .join('');
}

function lossText(untouched: readonly PingStream[], cut: readonly PingStream[], victim: Host): Promise<string> {
  const row = (stream: PingStream, what: string): string[] => [
    stream.name,
    what,
    String(stream.answered),
    String(stream.lost),
    `${(stream.longestGapMs / 1000).toFixed(2)} s`,
  ];
  return table(
    ['PINGS', 'WAY', 'ANSWERED', 'LOST', 'LONGEST GAP'],
    [...untouched.map((stream) => row(stream, 'not cut')), ...cut.map((stream) => row(stream, `to ${victim.name}`))],
    'no pings',
  );
}
