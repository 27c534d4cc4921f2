/**
 *   web, db ── weft a ══ (address comes, goes, comes) ══ weft b ── far
 *
 * The daemon waits for the address of the underlay: the networks of the host work, and status
 * and doctor say what it waits for.
 */
import t from 'tap';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, Weft, type DatapathKind } from '../support/weft.ts';

t.setTimeout(600_000);

const NETWORK = 'blue --subnet 10.44.0.0/24 --vni 100 --mtu 1400';

async function attached(lab: Lab, weft: Weft, role: string, ip: string): Promise<Namespace> {
  const namespace = await lab.namespace(role);
  await weft.attach(namespace, { network: 'blue', arguments: ['--ip', ip] });
  return namespace;
}

async function twoCabled(lab: Lab): Promise<{ a: Namespace; b: Namespace }> {
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  await lab.cable(a, 'u0', b, 'u0');
  await b.ip('address add 192.0.2.2/24 dev u0');
  return { a, b };
}

async function far(lab: Lab, host: Namespace, datapath: DatapathKind): Promise<void> {
  const weft = await Weft.up(lab, host, 'b', { datapath, underlay: '192.0.2.2', peers: ['192.0.2.1'] });
  await weft.createNetwork(NETWORK);
  await attached(lab, weft, 'far', '10.44.0.21');
}

for (const datapath of datapathKinds) {
  await t.test(datapath, async (t) => {
    const lab = openLab(t);
    const { a, b } = await twoCabled(lab);
    await far(lab, b, datapath);
    const weft = await Weft.up(lab, a, 'a', { datapath, underlay: '192.0.2.1', peers: ['192.0.2.2'] });
    await weft.createNetwork(NETWORK);
    const refused = await weft.attempt('network', 'create', 'red', '--subnet', '10.45.0.0/24', '--vni', '101');
    t.match(refused, { code: 1, stderr: /waited for \(192\.0\.2\.1 is not an address of this host\): give --mtu/ });
    const web = await attached(lab, weft, 'web', '10.44.0.11');
    await attached(lab, weft, 'db', '10.44.0.12');

    const waits = async (what: string): Promise<void> => {
      await until(async () => !(await weft.status()).tunnel?.open, { what });
      const status = await weft.attempt('status');
      t.match(status, { code: 0, stdout: /Underlay: +192\.0\.2\.1, waiting: 192\.0\.2\.1 is not an address/ }, what);
      const doctor = await weft.attempt('doctor');
      t.match(doctor, { code: 1, stdout: /tunnel +failed +waiting: 192\.0\.2\.1 is not an address/ });
      await web.run(['ip', 'neigh', 'flush', 'dev', 'eth0']);
      await ping(web, '10.44.0.12');
    };
    const works = async (what: string): Promise<void> => {
      await until(async () => (await weft.status()).tunnel?.open, { what });
      await ping(web, '10.44.0.21');
      t.notMatch((await weft.attempt('doctor')).stdout, /tunnel +failed/);
    };
    await waits('late at the start');
    await a.ip('address add 192.0.2.1/24 dev u0');
    await works('it comes');
    await a.ip('address del 192.0.2.1/24 dev u0');
    await waits('it goes');
    await a.ip('address add 192.0.2.1/24 dev u0');
    await works('it comes again');
  });
}

await t.test('without an address of its own in the configuration, a route to the peer is waited for', async (t) => {
  const lab = openLab(t);
  const { a, b } = await twoCabled(lab);
  await far(lab, b, 'native');
  const weft = await Weft.up(lab, a, 'a', { datapath: 'native', peers: ['192.0.2.2'] });
  t.match(await weft.status(), {
    underlay: null,
    tunnel: { open: false, why: /^the underlay address is not known, since 192\.0\.2\.2 cannot be reached/ },
  });
  await weft.createNetwork(NETWORK);
  const web = await attached(lab, weft, 'web', '10.44.0.11');
  await a.ip('address add 192.0.2.9/24 dev u0');
  await until(async () => (await weft.status()).underlay === '192.0.2.9', {
    what: 'the address that reaches the peer',
  });
  await a.ip('address del 192.0.2.9/24 dev u0');
  await a.ip('address add 192.0.2.1/24 dev u0');
  await until(async () => (await weft.status()).underlay === '192.0.2.1', { what: 'another one' });
  t.match(await weft.status(), { tunnel: { open: true } });
  await ping(web, '10.44.0.21');
});

await t.test('a port in use is waited for', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const script =
    "import socket; s = socket.socket(2, 2); s.bind(('127.0.0.1', 4789)); print('bound', flush=True); input()";
  const other = host.start(['python3', '-c', script]);
  await other.says('bound');
  const weft = await Weft.up(lab, host, 'a', { datapath: 'native', underlay: '127.0.0.1' });
  t.match(await weft.status(), { tunnel: { open: false, why: /UDP port 4789 on 127\.0\.0\.1 is in use/ } });
  other.end();
  await until(async () => (await weft.status()).tunnel?.open, { what: 'the port' });
});
