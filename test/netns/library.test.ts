/**
 *   ┌ host ─────────────────────────┐
 *   │ web ── weft ── shop           │     a program opens the switch, or asks the daemon of one
 *   └───────────────────────────────┘
 *
 * The library, from programs of their own.
 */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { DaemonClient } from '../../src/library/daemon-client.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { ping } from '../support/traffic.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const example = fileURLToPath(new URL('../../examples/library/shop.mjs', import.meta.url));

t.test('the example runs as it is', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  const [web, shop] = [await lab.namespace('web'), await lab.namespace('shop')];
  const said = await host.run([process.execPath, example, web.name, shop.name]);
  t.same(said.trimEnd().split('\n'), [
    `${shop.name} has 10.77.0.2, as allocated: true`,
    `backend default/${shop.name} is ready`,
    'without a policy: connect',
    'with one that lets nobody in: drop',
    `endpoints: ${shop.name}, ${web.name}`,
  ]);
  t.same([await web.links(), await shop.links()], [[], []], 'and leaves nothing');
});

t.test('a client of a daemon does what its command line does', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const [web, shop] = [await lab.namespace('web'), await lab.namespace('shop')];
  const weft = await Weft.up(lab, await lab.namespace('host'), 'host', { datapath: 'native' });
  await using client = new DaemonClient({ socket: weft.socket });
  const network = await client.createNetwork('blue', { subnets: ['10.44.0.0/24', 'fd44::/64'] });
  const ip = await network.allocateIp();
  const other = await network.allocateIp();
  t.same([ip, other], ['10.44.0.2', '10.44.0.3']);
  const names = async (): Promise<string[]> =>
    (await network.endpoints()).map(({ name, held }) => (held ? 'held' : name));

  t.same(await names(), ['held', 'held']);
  {
    await using port = await network.attach({ netns: web.name, name: 'web', ip });
    t.match(port, { name: 'web', namespace: 'default', ip, addresses: [ip, /^fd44::/], mac: /^02:/ });
    const { addresses } = await client.driver.attach({ network: 'blue', netns: shop.name, name: 'shop' });
    t.same(await names(), ['held', 'shop', 'web'], 'the address is held no more, and the other one is');
    await ping(web, addresses[0]!);
    await ping(shop, port.addresses[1]!);
    const said = await weft.attempt('network', 'rm', 'blue');
    await t.rejects(network.remove(), { code: 'conflict', message: said.stderr.replace(/^weft: |\n$/g, '') });
  }
  t.same(await names(), ['held', 'shop'], 'it is detached at the end of its block');

  await weft.kill();
  await weft.start();
  t.same(await names(), ['held', 'shop'], 'it is held after a crash, too');
  t.match(await network.report(), { name: 'blue', endpoints: 2 });
  await network.releaseIp(other);
  await network.releaseIp(other);
  t.same(await names(), ['shop']);
  const mistaken = async (): Promise<void> => {
    await using again = client.network('blue');
    const free = await again.allocateIp();
    await again.releaseIp(free);
    t.equal(await network.allocateIp(), free);
  };
  await t.rejects(mistaken(), { code: 'conflict' }, 'what somebody else holds by now is not released');
  t.same(await names(), ['held', 'shop']);

  const failing = async (): Promise<void> => {
    await using green = await client.createNetwork('green', { subnets: ['10.45.0.0/24'] });
    const free = await green.allocateIp();
    await green.attach({ netns: 'none', name: 'none', ip: free });
  };
  await t.rejects(
    failing(),
    { code: 'not_found', message: /^network namespace "none" does not exist/ },
    'what has failed is what is told',
  );
  await t.rejects(
    client.network('green').report(),
    { code: 'not_found' },
    'and the held address has not kept the network',
  );
  {
    await using port = await network.attach({ netns: web.name, name: 'web' });
    await port.detach();
    await network.attach({ netns: web.name, name: 'web' });
  }
  t.same(await names(), ['held', 'shop', 'web'], 'one that is detached already is not detached again');
  await client.driver.detach('web');
  {
    await using port = await network.attach({ netns: web.name, name: 'web' });
    await client.driver.detach(port.name);
  }
  for (const { addresses, held } of await network.endpoints()) if (held) await network.releaseIp(addresses[0]!);

  const events = client.policies.follow();
  t.same((await events.next()).value, { kind: 'open' });
  const next = events.next();
  client.close();
  t.same(await next, { done: true, value: undefined }, 'what is followed ends with the client');

  await client.driver.detach('shop');
  await network.remove();
  await t.rejects(network.report(), { code: 'not_found' });
});
