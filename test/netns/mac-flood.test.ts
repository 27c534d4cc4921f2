/**
 *   rogue VTEP ══ underlay ══ weft ── router (trusted, floods or behaves)
 *                              └───── web
 *
 * Ten thousand invented MAC addresses take only the quota of whom they come
 * from: nobody else's entry goes, and memory stops growing.
 */
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, overlay, underlay } from '../support/topology.ts';
import { ping, python, sendFrames } from '../support/traffic.ts';
import { udp } from '../support/frames.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(180_000);

const MACS = 10_000;
const NESTED_MACS = 10;
const MEMORY_SLACK_BYTES = 12e6;

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    const weft = await Weft.up(lab, under.left, 'left', { datapath, underlay: under.leftIp, peers: [under.rightIp] });
    await weft.createNetwork(overlay.create);
    const web = await attachContainer(lab, weft, 'web', 11);
    const router = await attachContainer(lab, weft, 'router', 12, ['--trust']);
    const nested = await attachContainer(lab, weft, 'nested', 13, ['--trust']);

    // MACs behind a third port, learned before the floods.
    const frames = Array.from({ length: NESTED_MACS }, (_, n) =>
      udp({ srcMac: `02:77:00:00:00:0${n}`, dstMac: web.mac, src: nested.ip4, dst: web.ip4 }, 4000, 4001),
    );
    await sendFrames(nested.namespace, frames);
    const learned = async (): Promise<Record<string, number>> => (await weft.status()).fdb.learned;
    const before = await until(
      async () => {
        const count = (await learned())['nested'] ?? 0;
        return count >= NESTED_MACS ? count : undefined;
      },
      { timeoutMs: 5000, what: `${NESTED_MACS} MACs behind nested` },
    );

    const floods = {
      [under.rightIp]: (seed: number) =>
        under.right.run(python('mac_flood.py', 'vxlan', under.rightIp, under.leftIp, overlay.vni, web.mac, MACS, seed)),
      router: (seed: number) => router.namespace.run(python('mac_flood.py', 'link', 'eth0', web.mac, MACS, seed)),
    };
    for (const [owner, flood] of Object.entries(floods)) {
      await t.test(`a flood from ${owner === 'router' ? 'a trusted port' : 'a VTEP'}`, async (t) => {
        const rss: number[] = [];
        let quota = 0;
        for (let round = 1; round <= 3; round++) {
          await flood(round);
          const { fdb, memory } = await weft.status();
          rss.push(memory.rssBytes);
          const entries = fdb.learned[owner] ?? 0;
          if (round === 1) quota = entries;
          t.ok(entries > 0 && entries < MACS / 2, `round ${round}: ${entries} entries of ${MACS}`);
          t.ok(entries <= quota, 'no more than in the first round');
          t.equal(fdb.learned['nested'], before, 'the entries of another port stay');
        }
        const [, second = 0, third = 0] = rss;
        t.ok(
          third - second < MEMORY_SLACK_BYTES,
          `memory: ${rss.map((bytes) => (bytes / 1e6).toFixed(0)).join(', ')} MB`,
        );
        await ping(web.namespace, nested.ip4);
      });
    }
  });
}
