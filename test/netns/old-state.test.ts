/**
 *   web, db ── weft          its state directory becomes one of format 1 while weft is down
 *
 * A state directory of an earlier version opens with its networks, hosts, endpoints and leases, and
 * running containers keep their interfaces. Namespaces that it uses are declared.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { decode, encodeRecord, FORMAT } from '../../src/store/journal.ts';
import type { Entry } from '../../src/store/store.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { oneHost } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const fixture = fileURLToPath(new URL('../store/fixtures/format-1/journal', import.meta.url));

await t.test('as the version before wrote it', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  await host.ip('link set lo up');
  mkdirSync(join(lab.directory, 'fixture-state'), { mode: 0o700 });
  writeFileSync(join(lab.directory, 'fixture-state', 'journal'), ofAnotherBoot(readFileSync(fixture, 'utf8')));
  const weft = await Weft.up(lab, host, 'fixture', { datapath: 'native', underlay: '127.0.0.1' });
  const check = async (): Promise<void> => {
    t.match(await weft.client.networks(), [
      { name: 'blue', vni: 100, mtu: 1400, subnets: ['10.44.0.0/24', 'fd44::/64'], endpoints: 2 },
      { name: 'green', vni: 101, outside: true, endpoints: 1 },
    ]);
    t.match(await weft.client.endpoints(), [
      { name: 'api', namespace: 'shop', state: 'remote', addresses: ['10.44.0.120'], labels: { app: 'api' } },
      { name: 'db', namespace: 'shop', state: 'detached', addresses: ['10.45.0.7'], mac: '02:45:04:56:d6:e8' },
      { name: 'web', namespace: 'default', state: 'detached', addresses: ['10.44.0.11', 'fd44::b'] },
    ]);
    t.match(await weft.client.get('Host'), [{ metadata: { name: 'beta' }, spec: { underlay: '127.0.0.2' } }]);
    t.match(await weft.client.get('Namespace'), [{ metadata: { name: 'default' } }, { metadata: { name: 'shop' } }]);
    t.match(await weft.client.get('Network', 'blue'), [
      { metadata: { labels: { env: 'prod' } }, spec: { routes: [{ to: '10.99.0.0/16', type: 'unreachable' }] } },
    ]);
  };
  await check();
  const other = await lab.namespace('other');
  const taken = await weft.attempt('attach', 'x', '--network', 'green', '--netns', other.name, '--ip', '10.45.0.7');
  t.match(taken, { code: 1, stderr: /10\.45\.0\.7 is taken by endpoint "shop\/db"/ }, 'a lease is still a lease');
  const back = await weft.attach(other, { name: 'web', network: 'blue' });
  t.same([back.state, back.addresses], ['attached', ['10.44.0.11', 'fd44::b']], 'a container that comes back');
  await weft.run('detach', 'web');
  await weft.stop();
  await weft.start();
  t.equal((await weft.client.endpoints()).length, 2);
});

await t.test('of running containers', async (t) => {
  const lab = openLab(t);
  const { weft, web, db } = await oneHost(lab, 'native');
  await ping(web.namespace, db.ip4);
  const index = async (): Promise<string> => web.namespace.ip('-o link show dev eth0');
  const before = await index();
  const endpoints = await weft.client.endpoints();
  await weft.kill();

  const journal = join(weft.state, 'journal');
  writeFileSync(journal, oldJournal(readFileSync(journal)));
  await weft.start();
  t.same(await weft.client.endpoints(), endpoints);
  t.equal((await index()).replace(/ mtu.*/, ''), before.replace(/ mtu.*/, ''), 'the very same interface');
  await ping(web.namespace, db.ip4);
  await ping(db.namespace, web.ip6);
});

await t.test('of an earlier boot', async (t) => {
  const lab = openLab(t);
  const { weft, web, db } = await oneHost(lab, 'native');
  await weft.kill();
  // As after a crash while the interface of db was being made, and with numbers that mean other namespaces by now.
  const journal = join(weft.state, 'journal');
  const records = ofAnotherBoot(readFileSync(journal, 'utf8')).toString().trimEnd().split('\n');
  const withoutIndex = records.map((record) => JSON.parse(record.slice(9).replace(/"ifindex":\d+,?/g, '')) as object);
  writeFileSync(journal, Buffer.concat(withoutIndex.map(encodeRecord)));
  for (const { namespace } of [web, db]) await namespace.ip('link del eth0');
  await weft.start();
  t.match(await weft.client.endpoints(), [
    { name: 'db', state: 'detached' },
    { name: 'web', state: 'detached' },
  ]);
  for (const { namespace } of [web, db]) t.same(await namespace.links(), [], 'no interface is made there');
});

/** Changes the boot: in the boot that wrote the journal, containers that are gone would be released. */
function ofAnotherBoot(journal: string): Buffer {
  const records = journal.trimEnd().split('\n');
  return Buffer.concat(
    records.map((record) =>
      encodeRecord(JSON.parse(record.slice(9).replace(/"bootId":"[^"]*"/g, '"bootId":"before"'))),
    ),
  );
}

/** The journal that the previous version would have had in place of this one. */
function oldJournal(bytes: Buffer): Buffer {
  const decoded = decode(bytes);
  if (decoded.kind !== 'sound' || decoded.format !== FORMAT) throw new Error('it is not of today');
  const entries = new Map<string, Entry>(decoded.snapshot.entries.map((entry) => [entry.key, entry]));
  for (const { revision, put, delete: deleted } of decoded.transactions) {
    for (const { key, value } of put) entries.set(key, { key, value, revision });
    for (const key of deleted) entries.delete(key);
  }
  const old: Entry[] = [];
  for (const { key, value, revision } of entries.values()) {
    const [plural, namespace, name] = key.split('/');
    if (plural === 'attachments' || plural === 'namespaces') continue;
    if (plural !== 'endpoints') old.push({ key, value, revision });
    else {
      const local = entries.get(`attachments/${namespace}/${name}`)?.value;
      old.push({ key: `endpoints/${name}`, value: { ...(value as object), local }, revision });
    }
  }
  const revision = decoded.transactions.at(-1)?.revision ?? decoded.snapshot.revision;
  return Buffer.concat([
    encodeRecord({ file: 'weft journal', format: 1 }),
    encodeRecord({ revision, entries: old.sort((a, b) => (a.key < b.key ? -1 : 1)) }),
  ]);
}
