/**
 *   ┌ a ─────────────┐   ┌ b ─────────────┐
 *   │ web            │   │ db, far        │
 *   └─ .1 ───────────┘   └─ .2 ───────────┘
 *         └── 192.0.2.0/24, one bridge ┴── etcd (.100): somebody damages records
 *
 * The addresses of an endpoint that waits are nobody else's: while its network or its interface is missing, and when another host
 * has taken one for its own.
 */
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { twoHostsOnEtcd } from '../support/store-outage.ts';
import { ping } from '../support/traffic.ts';
import type { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const NETWORK = 'weft/state/networks/blue';
const BLOCKS = 'weft/state/blocks/blue/4-10.44.0.';

await t.test('the addresses of endpoints that wait', { skip: needsRoot }, async (t) => {
  const { lab, etcd, a, b, web, db, dbIp } = await twoHostsOnEtcd(openLab(t));
  const box = await lab.namespace('box');
  const far = await lab.namespace('far');
  const addressOf = async (name: string): Promise<string> =>
    (await b.client.endpoints()).find((endpoint) => endpoint.name === name)!.addresses[0]!;
  const webIp = await addressOf('web');
  let made = 0;
  const attach = (weft: Weft, namespace: Namespace, ...more: string[]) => {
    const ifname = `e${++made}`;
    return weft.attempt(
      ...['attach', ifname, '--network', 'blue', '--netns', namespace.name, '--ifname', ifname, ...more],
    );
  };
  const read = async (key: string): Promise<string> => (await etcd.ctl(['get', key, '--print-value-only'])).trim();
  const states = async (weft: Weft) => (await weft.client.endpoints()).map(({ name, state }) => `${name} ${state}`);
  /** Nobody gets them, on either host, be they chosen or not. */
  const areKept = async (what: string, ...ips: readonly string[]): Promise<void> => {
    for (const weft of [a, b]) {
      for (const ip of ips) {
        const { code, stderr } = await attach(weft, box, '--ip', ip);
        t.equal(code, 1, what);
        t.match(stderr, new RegExp(`ip ${ip} (is taken by endpoint|is of a block of host .* has it)`), what);
      }
      const { code, stdout, stderr } = await attach(weft, box, '-o', 'json');
      t.equal(code, 0, stderr);
      const [chosen] = (JSON.parse(stdout) as { addresses: string[] }).addresses;
      t.notOk(ips.includes(chosen!), `${what}: ${chosen}`);
    }
  };

  await t.test('their network is missing for a while', async (t) => {
    const network = await read(NETWORK);
    await etcd.ctl(['del', NETWORK]);
    for (const [weft, name] of [
      [a, 'web'],
      [b, 'db'],
    ] as const) {
      await until(async () => (await states(weft)).includes(`${name} waiting`), { what: `${name} to wait` });
    }
    await etcd.ctl(['put', NETWORK, network]);
    for (const { client } of [a, b]) {
      await until(async () => (await client.networks()).length === 1, { what: 'the network' });
    }
    await areKept('the network is back', webIp, dbIp);
    await until(async () => (await states(b)).includes('db attached'), { what: 'db to be attached' });
    t.same([await addressOf('web'), await addressOf('db')], [webIp, dbIp]);
    await ping(web, dbIp);
  });

  await t.test('an interface is missing', async () => {
    await db.ip('link delete eth0');
    await until(async () => (await states(b)).includes('db detached'), { what: 'that to be known' });
    await areKept('its interface is gone', dbIp);
    await b.kill();
    await b.start();
    await areKept('and the daemon is another one', dbIp);
    await b.attach(db, { name: 'db', network: 'blue' });
    t.equal(await addressOf('db'), dbIp);
    await ping(web, dbIp);
  });

  await t.test('the host of the block has taken one back', async (t) => {
    // Whoever was first when the network was back has the first block.
    const hostOf = async (block: string): Promise<unknown> => (JSON.parse(await read(block)) as { host?: string }).host;
    const FIRST = (await hostOf(`${BLOCKS}0`)) === 'a' ? 0 : 16;
    const BLOCK = `${BLOCKS}${FIRST}`;
    const FAR = `10.44.0.${FIRST + 13}`;
    await b.attach(far, { name: 'far', network: 'blue', arguments: ['--ip', FAR, '--wait'] });
    await ping(web, FAR);
    const record = JSON.parse(await read(BLOCK)) as { host: string; claimed: Record<string, object> };
    t.match(record, { host: 'a', claimed: { [FAR]: { host: 'b', endpoint: 'far' } } });
    const free = { ...record, claimed: { ...record.claimed, [FAR]: { ...record.claimed[FAR], isFree: true } } };
    await etcd.ctl(['put', BLOCK, JSON.stringify(free)]);
    const claim = async (): Promise<unknown> =>
      (JSON.parse(await read(BLOCK)) as { claimed: Record<string, unknown> }).claimed[FAR];
    await until(async () => isGranted(await claim()), { what: 'it to be yielded' });
    await until(async () => (await states(b)).includes('far attached'), { what: 'far to be attached' });
    await areKept('yielded', FAR);
    await ping(web, FAR);
    t.same((await b.status()).endpointProblems, {});
  });
});

/** It is the other host's, and nothing else is said of it. */
function isGranted(claim: unknown): boolean {
  return JSON.stringify(claim) === JSON.stringify({ host: 'b', endpoint: 'far' });
}
