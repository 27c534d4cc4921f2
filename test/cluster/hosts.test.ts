/** Hosts of the store, as this host knows them. */
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { Hosts } from '../../src/cluster/membership/hosts.ts';
import type { Stored } from '../../src/cluster/reconciler.ts';
import { RefusedRecords } from '../../src/cluster/refused-records.ts';
import { formatIp, formatMac, parseIp } from '../../src/flow/types.ts';
import type { Remote } from '../../src/forwarding/remote.ts';
import type { HostResource } from '../../src/model/kinds/host.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';
import { Random } from '../support/random.ts';

/** Without a datapath. */
function openHosts(
  remote: Pick<Remote, 'addVtep' | 'removeVtep'> = { addVtep: () => {}, removeVtep: () => {} },
  underlay?: string,
): Hosts {
  return new Hosts({
    forwarding: { remote },
    name: 'here',
    id: idOf('a'),
    refused: () => new RefusedRecords(),
    underlay: () => (underlay === undefined ? undefined : parseIp(underlay)),
    peers: [],
    whyAlive: () => undefined,
    stillGone: (name) => ({ key: `live/${name}`, revision: 0 }),
    belongingsOf: () => ({}),
    onMoved: async () => {},
    onAdded: async () => {},
  });
}

function stored(name: string, underlay: string): Stored<HostResource> {
  const resource: HostResource = {
    apiVersion: WEFT_V1,
    kind: 'Host',
    metadata: { name, labels: {} },
    spec: { underlay },
  };
  return { name, resource, revision: 1, record: { resource } };
}

/** In the order in which they count if they have one address. The first is this host itself, if it is registered. */
const NAMES = ['a', 'b', 'c', 'e9', 'e10'];

function idOf(name: string): string {
  return Buffer.from(name).toString('hex').padStart(32, '0');
}

/** @param mac undefined for a host that does not share the store */
function registered(name: string, { underlay, mac }: { readonly underlay: string; readonly mac: string | undefined }) {
  const { record, ...others } = stored(name, underlay);
  const registration = mac && { host: name, id: idOf(name), mac: mac.slice(9).replaceAll(':', ''), since: '' };
  return { ...others, record: { ...record, ...registration } };
}

t.test('which host has an underlay address', async (t) => {
  const hosts = openHosts();
  await hosts.put([stored('b', '192.0.2.1'), stored('a', '192.0.2.1'), stored('c', '192.0.2.3')]);
  t.equal(hosts.nameAt('192.0.2.1'), 'a', 'the first of two');
  t.equal(hosts.nameAt('192.0.2.3'), 'c');
  t.equal(hosts.nameAt('192.0.2.2'), undefined);
  await hosts.put([stored('c', '192.0.2.2')]);
  t.same([hosts.nameAt('192.0.2.3'), hosts.nameAt('192.0.2.2')], [undefined, 'c'], 'it moved');
  await hosts.remove(['a']);
  t.equal(hosts.nameAt('192.0.2.1'), 'b');
});

t.test('it is found without looking at all of them each time', async (t) => {
  const hosts = openHosts();
  await hosts.put(Array.from({ length: 100 }, (_, at) => stored(`host-${at}`, `192.0.2.${at}`)));
  const all = t.capture(hosts, 'all', hosts.all.bind(hosts));
  for (let at = 0; at < 100; at++) t.equal(hosts.nameAt(`192.0.2.${at}`), `host-${at}`);
  t.same(all(), []);
});

t.test('VTEPs are in the order of the names, whoever came first', async (t) => {
  const hosts = openHosts();
  for (const n of [3, 1, 2]) await hosts.put([stored(`host-${n}`, `192.0.2.${n}`)]);
  t.same(hosts.vteps(), ['192.0.2.1', '192.0.2.2', '192.0.2.3']);
});

t.test('VTEPs follow any changes of hosts, one by one', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const inForce = new Map<string, string | undefined>();
    const hosts = openHosts({
      addVtep: (vtep, mac) => void inForce.set(formatIp(vtep), mac && formatMac(mac)),
      removeVtep: (vtep) => t.ok(inForce.delete(formatIp(vtep)), `seed ${seed}: it was there`),
    });
    const known = new Map<string, { readonly underlay: string; readonly mac: string | undefined }>();
    for (let step = 0; step < 50; step++) {
      const changed = [...new Set([random.pick(NAMES), random.pick(NAMES)])];
      for (const name of changed) known.delete(name);
      if (random.chance(0.3)) {
        await hosts.remove(changed);
      } else {
        for (const name of changed) {
          const mac = random.chance(0.5) ? undefined : `02:77:65:00:00:0${random.int(10)}`;
          known.set(name, { underlay: `192.0.2.${random.int(4)}`, mac });
        }
        await hosts.put(changed.map((name) => registered(name, known.get(name)!)));
      }
      const wanted = new Map<string, string | undefined>();
      for (const name of NAMES) {
        const { underlay, mac } = known.get(name) ?? {};
        const isThisHost = name === 'a' && mac !== undefined;
        if (underlay !== undefined && !isThisHost) wanted.set(underlay, mac);
      }
      const own = known.get('a');
      if (own?.mac !== undefined) wanted.delete(own.underlay);
      if (!isDeepStrictEqual(inForce, wanted)) t.same(inForce, wanted, `seed ${seed}, step ${step}`);
      t.same([...hosts.vteps()].sort(), [...wanted.keys()].sort());
    }
  }
});

t.test(
  'a host that somebody has written into the store with the address of this one is no VTEP, and is told',
  async (t) => {
    const hosts = openHosts(undefined, '192.0.2.1');
    await hosts.put([registered('a', { underlay: '192.0.2.1', mac: '02:77:65:00:00:01' }), stored('b', '192.0.2.2')]);
    t.same(hosts.clashes(), []);
    await hosts.put([stored('e9', '192.0.2.1')]);
    t.same(hosts.vteps(), ['192.0.2.2']);
    t.match(hosts.clashes(), [
      {
        detail: 'host "e9" is declared with underlay 192.0.2.1, the address of this host',
        hint: /`weft delete host e9`/,
      },
    ]);
    await hosts.remove(['e9']);
    t.same(hosts.clashes(), []);
  },
);

t.test('with a host goes what it has said of its backends, also without a lease', async (t) => {
  const hosts = openHosts();
  await hosts.put([registered('there', { underlay: '192.0.2.7', mac: '02:00:00:00:00:07' })]);
  t.ok(hosts.planRemoval('there').delete?.includes('unhealthy/there'));
});
