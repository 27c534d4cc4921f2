/** Hosts of the store, as this host knows them. */
import t from 'tap';
import { Hosts } from '../../src/cluster/hosts.ts';
import type { Stored } from '../../src/cluster/reconciler.ts';
import type { Forwarding } from '../../src/forwarding.ts';
import type { HostResource } from '../../src/model/kinds/host.ts';
import { WEFT_V1 } from '../../src/model/kinds/kind.ts';

/** Without a datapath. */
function openHosts(): Hosts {
  return new Hosts({
    forwarding: { addVtep: () => {}, removeVtep: () => {} } as unknown as Forwarding,
    name: 'here',
    id: '00',
    underlay: () => undefined,
    peers: [],
    whyAlive: () => undefined,
    belongingsOf: () => ({}),
    onMoved: async () => {},
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
  t.equal(all().length, 1);
});
