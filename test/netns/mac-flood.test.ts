/**
 *   rogue VTEP ══ underlay ══ weft ── router (trusted, floods or behaves)
 *                              └───── web
 *
 * Ten thousand made-up MAC addresses use up only the quota of the port or VTEP that they come
 * from: no other entry is lost, and memory stops growing.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { attachContainer, overlay, underlay } from '../support/topology.ts';
import { ping, python, sendFrames } from '../support/traffic.ts';
import { udp } from '../support/frames.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const MACS = 10_000;
const NESTED_MACS = 10;
const QUOTA = 1000;
/** In these first rounds it takes the memory that it needs. */
const WARM_UP = 2;
const MOST_ROUNDS = 8;
/** Fewer than a flood brings: the first round takes all the memory that flows may use. */
const FLOWS = 5000;
/** For what two floods bring in a round: keeping each MAC, flow or frame would take more. */
const LEAK_BYTES = 2 * MACS * 64;
/** Flows are removed soon after a flood, so that each round starts like the one before. */
const config = `fdbQuota: ${QUOTA}\nflowIdleMs: 1000\nflowLimit: ${FLOWS}\n`;

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const under = await underlay(lab, 'ipv4');
    const file = join(lab.directory, 'weft.yaml');
    writeFileSync(file, config);
    const weft = await Weft.up(lab, under.left, 'left', {
      datapath,
      underlay: under.leftIp,
      peers: [under.rightIp],
      arguments: ['--config', file],
      collectable: true,
    });
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
      { what: `${NESTED_MACS} MACs behind nested` },
    );

    const floods = {
      [under.rightIp]: (seed: number) =>
        under.right.run(python('mac_flood.py', 'vxlan', under.rightIp, under.leftIp, overlay.vni, web.mac, MACS, seed)),
      // Other MACs than those of the VTEP, since a MAC that both use would change its owner.
      router: (seed: number) =>
        router.namespace.run(python('mac_flood.py', 'link', 'eth0', web.mac, MACS, MOST_ROUNDS + seed)),
    };
    await t.test('a flood from a VTEP and one from a trusted port at once', async (t) => {
      const kept: number[] = [];
      const grows = (): boolean => kept.length <= WARM_UP || kept.at(-1)! >= kept.at(-2)! + LEAK_BYTES;
      for (let round = 1; round <= MOST_ROUNDS && grows(); round++) {
        await Promise.all(Object.values(floods).map((flood) => flood(round)));
        await until(async () => (await weft.status()).datapath.flows < 100, { what: 'the flows of the floods gone' });
        const { fdb, memory } = await weft.collected();
        for (const owner of Object.keys(floods)) {
          t.equal(fdb.learned[owner], QUOTA, `round ${round}: ${owner} has its quota of ${MACS} MACs`);
        }
        t.equal(fdb.learned['nested'], before, 'the entries of another port stay');
        kept.push(memory.rssBytes - memory.heapTotalBytes + memory.heapUsedBytes);
      }
      // Memory that the allocator has not given back yet comes and goes; a leak grows in every round.
      const figures = kept.map((bytes) => (bytes / 1e6).toFixed(1)).join(', ');
      t.notOk(grows(), `memory: ${figures} MB`);
      await ping(web.namespace, nested.ip4);
    });
  });
}
