/**
 *   ┌ host ─────────────┐
 *   │ web ── weft ── db │
 *   └───────────────────┘
 *
 * A policy cuts web off from db. Nobody confirms it, so it goes again, also if the daemon was killed or another one has taken over
 * meanwhile. One that is confirmed stays.
 */
import t, { type Test } from 'tap';
import { parseResource } from '../../src/model/manifest.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const closed = parseResource({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'closed' } },
  spec: { podSelector: {} },
});

await t.test('apply --confirm', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const weft = await Weft.up(lab, await lab.namespace('host'), 'a', { datapath: 'native' });
  await weft.createNetwork(overlay.create);
  const web = await attachContainer(lab, weft, 'web', 11);
  const db = await attachContainer(lab, weft, 'db', 12);
  const policies = () => weft.client.get('NetworkPolicy');
  const gone = async (t: Test): Promise<void> => {
    // The resources go first, what waits afterwards.
    await until(async () => (await weft.status()).confirmation.waiting === null, {
      what: 'the policy to be taken back',
    });
    t.same(await policies(), []);
    await ping(web.namespace, db.ip4);
  };

  await t.test('after kill -9', async (t) => {
    const [report] = await weft.client.apply([closed], { confirmMs: 5000 });
    t.ok(report!.unconfirmedUntil);
    t.match((await weft.status()).confirmation, { waiting: { host: 'a', resources: ['networkpolicy "closed"'] } });
    await weft.kill();
    await weft.start();
    await gone(t);
  });

  await t.test('after a takeover', async (t) => {
    await weft.client.apply([closed], { confirmMs: 5000 });
    await weft.takeOver();
    await gone(t);
    t.match((await weft.status()).audit, { mismatches: 0 });
  });

  await t.test('what is confirmed stays', async (t) => {
    await weft.client.apply([closed], { confirmMs: 600_000 });
    await weft.client.confirm();
    t.equal((await weft.status()).confirmation.waiting, null);
    t.equal((await policies()).length, 1);
  });
});
