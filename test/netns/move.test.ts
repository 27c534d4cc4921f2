/**
 *   ┌ a ─────────┐   ┌ b ─────────┐   ┌ c ─────────┐
 *   │ client     │   │ app ───────────► app         │
 *   └─ .1 ───────┘   └─ .2 ───────┘   └─ .3 ───────┘
 *         └───── 192.0.2.0/24, one bridge ┴── etcd (.100)
 *
 * An endpoint moves from one host to another with its addresses and its MAC, and its connections go on: the same container,
 * whose interface is taken away on one host and made on the other.
 */
import t from 'tap';
import { etcdAddress, etcdCluster } from '../support/cluster.ts';
import { openLab } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const PORT = 7000;
/** The longest that an established connection may pause. */
const MOST_PAUSED_MS = 500;

/** Answers every byte with the same byte. */
const echoes = `
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', ${PORT})); s.listen()
print('listening', flush=True)
c, _ = s.accept(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while True:
    d = c.recv(64)
    if not d: break
    c.sendall(d)
`;
/** Sends a byte every 10 ms, and prints the longest time that passed between two answers whenever it grows. */
const asks = (ip: string): string => `
import socket, time, threading
s = socket.create_connection(('${ip}', ${PORT})); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def send():
    while True: s.sendall(b'x'); time.sleep(0.01)
threading.Thread(target=send, daemon=True).start()
last = time.monotonic(); longest = 0; count = 0
while True:
    n = len(s.recv(4096))
    if n == 0: print('closed', flush=True); break
    now = time.monotonic(); longest = max(longest, now - last); last = now; count += n
    print(count, round(longest * 1000), flush=True)
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const cluster = await etcdCluster(lab, 3);
    const [a, b, c] = (await cluster.up(datapath)) as [Weft, Weft, Weft];
    await a.createNetwork('blue --subnet 10.44.0.0/24 --subnet fd44::/64');
    const [client, app] = [await lab.namespace('client'), await lab.namespace('app')];
    await a.attach(client, { name: 'client', network: 'blue', arguments: ['--wait'] });
    const before = await b.attach(app, { name: 'app', network: 'blue', arguments: ['--label', 'tier=data', '--wait'] });
    const [ip4 = '', ip6 = ''] = before.addresses;
    const server = app.start(['python3', '-u', '-c', echoes]);
    await until(() => server.stdout.includes('listening'), { what: 'the server listens' });
    const asker = client.start(['python3', '-u', '-c', asks(ip4)]);
    const state = (): { count: number; longestMs: number } => {
      const [count = 0, longestMs = 0] = (asker.stdout.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
      return { count, longestMs };
    };
    await until(() => state().count > 50, { what: 'they talk' });

    await t.test('without --move it is refused, naming the host', async (t) => {
      t.match(await c.attempt('attach', 'app', '--network', 'blue', '--netns', app.name), {
        code: 1,
        stderr: /endpoint "app" is on host "b": detach it there first, or take it over with `weft attach --move`/,
      });
    });

    await t.test('with --move it moves, and established connections go on', async (t) => {
      const { count } = state();
      const report = await c.attach(app, { name: 'app', network: 'blue', arguments: ['--move', '--wait'] });
      t.match(report, {
        state: 'attached',
        host: 'c',
        mac: before.mac,
        addresses: before.addresses,
        labels: { tier: 'data' },
      });
      await until(() => state().count > count + 100, { what: 'the connection goes on' });
      t.notOk(asker.stdout.includes('closed'));
      t.ok(state().longestMs <= MOST_PAUSED_MS, `a pause of ${state().longestMs} ms`);
      t.comment(`the connection paused for ${state().longestMs} ms`);
      await ping(client, ip6);
      t.match(await b.client.endpoints(), [{ name: 'app', state: 'remote', host: 'c' }, { name: 'client' }]);
      t.same((await app.links()).filter((link) => link.includes('eth')).length, 1, 'one interface');
    });

    await t.test('what an owner sends that does not know of the move is refused', async (t) => {
      await cluster.cut(cluster.hosts[2]!, [etcdAddress]);
      const back = await lab.namespace('back');
      const moved = await b.attach(back, { name: 'app', network: 'blue', arguments: ['--move'] });
      t.match(moved, { state: 'attached', host: 'b', addresses: before.addresses });
      await until(async () => (await a.client.endpoints()).find(({ name }) => name === 'app')?.host === 'b', {
        what: 'a knows',
      });
      await ping(client, ip4);
      const refused = async (): Promise<number> => (await a.drops())['vtep_not_owner'] ?? 0;
      const counted = await refused();
      await app.attempt([
        'ping',
        '-c',
        '1',
        '-W',
        '1',
        (await a.client.endpoints()).find(({ name }) => name === 'client')!.addresses[0]!,
      ]);
      t.ok((await refused()) > counted, 'c still has its old container, and speaks for nobody');
      await ping(client, ip4);
      await cluster.mend(cluster.hosts[2]!);
      await until(async () => (await app.links()).every((link) => !link.includes('eth')), { what: 'c lets go of it' });
    });

    await t.test('from a host that does not run it moves without being told to', async (t) => {
      await b.stop();
      await until(async () => (await c.attempt('attach', 'app', '--network', 'blue', '--netns', app.name)).code === 0, {
        what: 'b does not run any more',
      });
      t.match(await c.client.endpoints(), [
        { name: 'app', state: 'attached', host: 'c', addresses: before.addresses },
        {},
      ]);
      await until(async () => (await client.attempt(['ping', '-c', '1', '-W', '1', ip4])).code === 0, {
        what: 'it answers',
      });
    });
    await Promise.all([server.stop('SIGKILL'), asker.stop('SIGKILL')]);
  });
}
