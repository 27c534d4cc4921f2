/**
 * The examples of hooks, in the simulation, as users would try theirs.
 *
 *   client 10.0.0.2 ── weft ─┬─ 10.0.0.3 (v1, rack a), 10.0.0.4 (v2, rack b), 10.0.0.5 (v1, rack b)     service shop/web: TCP 80 → 8080
 *                            └─ outside
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import t, { type Test } from 'tap';
import { createSimulation } from '../../src/simulation.ts';
import { OUTSIDE_HOST_MAC, OUTSIDE_MAC } from '../../src/table/topology.ts';
import { formatMac } from '../../src/flow/types.ts';
import { gateway, macOf, SYN, VNI } from '../support/backend-lab.ts';
import { tcp, udp } from '../support/frames.ts';
import { backend, service, servicePort } from '../support/services.ts';

t.setTimeout(120_000);

const textOf = (name: string): string =>
  readFileSync(new URL(`../../examples/hooks/${name}.ts`, import.meta.url), 'utf8');
const VIP = '10.96.0.1';

async function lab(t: Test, name: string, labels: Readonly<Record<string, string>> = {}) {
  const net = createSimulation();
  t.teardown(() => net.close());
  const host = net.host('here', '192.0.2.1');
  host.createNetwork('blue', VNI, { subnets: ['10.0.0.0/24'], outside: true });
  const outside = host.openOutside({ transit: ['169.254.77.2'] });
  const attach = (last: number, at: string, more: Readonly<Record<string, string>>) =>
    host.attach({ name: at, network: 'blue', mac: macOf(last), addresses: [`10.0.0.${last}`], labels: more });
  const client = attach(2, 'shop/client', labels);
  const ports = new Map([
    [3, attach(3, 'shop/one', { version: 'v1', rack: 'a' })],
    [4, attach(4, 'shop/two', { version: 'v2', rack: 'b' })],
    [5, attach(5, 'shop/three', { version: 'v1', rack: 'b' })],
  ]);
  const backends = ['one', 'two', 'three'].map((endpoint, at) =>
    backend(`10.0.0.${at + 3}`, { vni: VNI, host: 'here', endpoint: `shop/${endpoint}` }),
  );
  host.forwarding.setService(service({ id: 'shop/web', backends, ports: [servicePort(3)] }));
  host.forwarding.servicesLoaded();
  host.publish('shop/one', { protocol: 'TCP', hostPort: 8080, port: 80 });
  await host.setHook(basename(name), textOf(name));
  const received = (): number => {
    let got = outside.received.splice(0).length > 0 ? 1 : 0;
    for (const [last, port] of ports) if (port.received.splice(0).length > 0) got = last;
    client.received.splice(0);
    return got;
  };
  /** @returns the last number of who gets it; 1 for the outside; 0 for nobody */
  const ask = (to: string, destinationPort: number, sourcePort = 4000): number => {
    const ends = { srcMac: macOf(2), dstMac: gateway, src: '10.0.0.2', dst: to };
    client.send(tcp(ends, { sourcePort, destinationPort, flags: SYN }));
    return received();
  };
  const comeIn = (from: string): number => {
    const ends = {
      srcMac: formatMac(OUTSIDE_HOST_MAC),
      dstMac: formatMac(OUTSIDE_MAC),
      src: from,
      dst: '169.254.77.2',
    };
    outside.send(tcp(ends, { sourcePort: 4000, destinationPort: 8080, flags: SYN }));
    return received();
  };
  const spread = (): Readonly<Record<number, number>> => {
    const counts: Record<number, number> = {};
    for (let n = 0; n < 300; n++) {
      const got = ask(VIP, 80, 1024 + n);
      counts[got] = (counts[got] ?? 0) + 1;
    }
    return counts;
  };
  /** @returns how many of so many datagrams of 1000 bytes arrive */
  const sends = (last: number, count: number): number => {
    const port = ports.get(last)!;
    const ends = { srcMac: macOf(2), dstMac: macOf(last), src: '10.0.0.2', dst: `10.0.0.${last}` };
    port.received.splice(0);
    for (let n = 0; n < count; n++) client.send(udp(ends, 5000, 443, new Uint8Array(1000 - 42)));
    return port.received.splice(0).length;
  };
  return { net, host, ask, comeIn, spread, sends };
}

t.test('canary', async (t) => {
  const everybody = await lab(t, 'canary');
  t.same(Object.keys(everybody.spread()), ['3', '5'], 'v1');
  const canary = await lab(t, 'canary', { canary: 'true' });
  t.same(canary.spread(), { 4: 300 }, 'v2');
  t.equal(canary.ask('10.0.0.5', 80), 5, 'what is not for the service is as it was');
});

t.test('fence', async (t) => {
  const eu = await lab(t, 'fence', { zone: 'eu' });
  t.equal(eu.ask('10.0.0.3', 80), 3);
  t.equal(eu.ask('203.0.113.9', 443), 0);
  t.equal(eu.comeIn('198.51.100.7'), 3);
  t.equal(eu.comeIn('203.0.113.9'), 1, 'it is told: nobody else gets anything');
  const others = await lab(t, 'fence');
  t.equal(others.ask('203.0.113.9', 443), 1);
});

t.test('tenants', async (t) => {
  const { net, host, ask, sends } = await lab(t, 'tenants');
  const labels: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    shop: { tenant: 'acme', plan: 'trial' },
    other: { tenant: 'umbrella' },
    common: { tenant: 'shared' },
  };
  const namespaces: Record<number, string> = { 2: 'shop', 3: 'shop', 4: 'other', 5: 'common' };
  const { policies } = host.forwarding.tables;
  policies.workloadsFrom((address) => {
    const last = address.at(-1)!;
    const namespace = namespaces[last];
    if (namespace === undefined || address[12] !== 10) return undefined;
    const name = { 2: 'client', 3: 'one', 4: 'two', 5: 'three' }[last]!;
    // All of them were attached in one namespace.
    return {
      endpoint: `shop/${name}`,
      identity: { namespace, labels: {}, namespaceLabels: labels[namespace]!, ports: [] },
    };
  });
  t.equal(ask('10.0.0.3', 80), 3, 'its own');
  t.equal(ask('10.0.0.4', 80), 0, 'another one');
  t.equal(ask('10.0.0.5', 80), 5, 'what is shared');
  t.equal(ask('203.0.113.9', 443), 1);
  t.equal(ask('203.0.113.9', 22), 0, 'a trial');
  net.advance(1000);
  const [own, more] = [sends(3, 100), sends(5, 100)];
  t.equal(own, 100);
  t.ok(more >= 25 && more < 30, `${more}: all together send a tenth of a second of 10 Mbit/s at once`);
  net.advance(40);
  t.equal(sends(5, 100), 50, 'and that rate from then on');
});

t.test('balancer', async (t) => {
  const a = await lab(t, 'balancer', { rack: 'a' });
  const { 3: near = 0, 4: two = 0, 5: three = 0 } = a.spread();
  t.equal(near + two + three, 300);
  t.ok(near > 120 && near < 180, `${near} of 300 to the one in the rack, ${two} and ${three} to the others`);
  const none = (await lab(t, 'balancer')).spread();
  t.ok((none[3] ?? 0) < 130, 'without a rack, each gets a third');
});

t.test('hooks in the simulation are told, and removed', async (t) => {
  const { host, ask } = await lab(t, 'fence', { zone: 'eu' });
  await t.rejects(host.setHook('fence', 'const x = ;'), { message: /^fence\.ts:1:11: / });
  t.match(host.hooks(), [{ name: 'fence', state: 'in_force', why: /^fence\.ts:1:11/ }]);
  t.equal(ask('203.0.113.9', 443), 0, 'the one before stays in force');
  await host.removeHook('fence');
  t.equal(ask('203.0.113.9', 444), 1);
});
