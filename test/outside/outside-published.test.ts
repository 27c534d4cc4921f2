/** Ports published on the host, with real packets, and how they change. place.ts has a drawing of the set-up. */
import t from 'tap';
import type { ServiceAddressPort } from '../../src/model/publish.ts';
import { transit } from '../../src/outside/link.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { isUnreachable, python } from '../support/traffic.ts';
import {
  own,
  second,
  clientIp,
  weftIp,
  families,
  place,
  tellPeer,
  seenAs,
  isAnswered,
  counted,
  tcp,
  udp,
} from './place.ts';

t.setTimeout(600_000);
// Most of the time is spent waiting for packets that must not come.
t.jobs = 3;

t.test('in: only what is published, from the client’s own address', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(inside, 8080);
  await tellPeer(inside, 8081);
  await inside.start(python('udp_answer.py', 5300)).says('ready');
  await opener.do({ op: 'open', published: [...tcp(8080), ...udp(5300), ...tcp(8081, second)] });

  for (const family of families) {
    t.equal(await seenAs(client, own[family], 8080), clientIp[family], `from another machine, IPv${family}`);
    t.equal(await seenAs(host, own[family], 8080), own[family], `from this host, IPv${family}`);
    t.ok(await isAnswered(client, own[family], 5300), `UDP over IPv${family}`);
    // A container that calls the port goes through the host and back into weft0.
    t.equal(await seenAs(inside, own[family], 8080), transit[`ip${family}`].host, `from inside, IPv${family}`);
  }
  t.equal(await seenAs(client, second, 8081), clientIp[4], 'on one address of the host');
  t.equal(await seenAs(client, own[4], 8081), undefined, 'and on no other');
  t.equal(await seenAs(host, '127.0.0.1', 8080), undefined, 'not on the loopback');
  t.equal(await seenAs(host, '::1', 8080), undefined, 'of neither family');

  for (const family of families) {
    await client.ip(`route add ${weftIp[family]} via ${own[family]}`);
    t.ok(await isUnreachable(client, weftIp[family]), `no way around, IPv${family}`);
    t.equal(await seenAs(client, weftIp[family], 8080), undefined, 'for published ports neither');
  }
  t.ok((await counted(host, 'not published')) > 0);
});

t.test('addresses of services lead to other ports, with the client’s own address', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  for (const port of [30_080, 30_081]) await tellPeer(inside, port);
  await inside.start(python('udp_answer.py', 30_053)).says('ready');
  await tellPeer(host, 81);
  const given = { 4: '203.0.113.7', 6: '2001:db8:7::7' } as const;
  const at = (address: string, protocol: 'TCP' | 'UDP', l4Port: number, nodePort: number): ServiceAddressPort => ({
    ...{ family: address.includes(':') ? 6 : 4, protocol, address, l4Port, nodePort },
  });
  const addresses = families.flatMap((family) => [
    at(given[family], 'TCP', 80, 30_080),
    at(given[family], 'UDP', 53, 30_053),
    at(given[family], 'UDP', 4789, 30_053),
    // An address may be one of the host.
    at(own[family], 'TCP', 80, 30_081),
  ]);
  await opener.do({ op: 'open', addresses });
  for (const family of families) {
    await client.ip(`route add ${given[family]} via ${own[family]}`);
    await host.ip(`address add ${given[family]}/${family === 4 ? 32 : '128 nodad'} dev lo`);
    t.equal(await seenAs(client, given[family], 80), clientIp[family], `from another machine, IPv${family}`);
    t.equal(await seenAs(client, own[family], 80), clientIp[family], 'at an address of the host');
    t.ok(await isAnswered(client, given[family], 53), `UDP over IPv${family}`);
    t.equal(await seenAs(host, given[family], 80), given[family], 'from the host itself');
    t.equal(await seenAs(client, given[family], 81), clientIp[family], 'other ports are still the host’s');
    t.notOk(await isAnswered(client, given[family], 4789), 'VXLAN is never let in');
    t.equal(await seenAs(client, own[family], 30_080), undefined, 'the node port itself is not published');
    // Where no interface has the address.
    await host.ip(`address del ${given[family]}/${family === 4 ? 32 : 128} dev lo`);
    t.equal(await seenAs(client, given[family], 80), clientIp[family], `for an address of nobody, IPv${family}`);
  }
  await opener.do({ op: 'update', published: tcp(30_080) });
  for (const family of families) {
    t.equal(await seenAs(client, own[family], 80), undefined, `taken away, IPv${family}`);
    t.equal(await seenAs(client, own[family], 30_080), clientIp[family]);
  }
});

t.test('UDP to the address of a service follows its node port', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  const sinks = [
    host.start(python('udp_probe_sink.py', 5300)),
    inside.start(python('udp_probe_sink.py', 30_053)),
    inside.start(python('udp_probe_sink.py', 30_054)),
  ];
  for (const sink of sinks) await sink.says('ready');
  await opener.do({ op: 'open' });
  for (const family of families) client.start(python('udp_probe.py', own[family], 5300));
  const comeTo = async (where: number, what: string): Promise<void> => {
    const [sink, others] = [sinks[where]!, sinks.filter((_, at) => at !== where)];
    const strays = (): number => others.reduce((sum, { lines }) => sum + lines.length, 0);
    let [since, stays] = [0, -1];
    const isSettled = (): boolean => {
      if (strays() !== stays) [since, stays] = [sink.lines.length, strays()];
      return sink.lines.length >= since + 50;
    };
    await until(isSettled, { what });
    t.pass(what);
  };
  const led = (nodePort: number): ServiceAddressPort[] =>
    families.map((family) => ({ family, protocol: 'UDP', address: own[family], l4Port: 5300, nodePort }));
  await comeTo(0, 'not published yet');
  await opener.do({ op: 'update', published: [], addresses: led(30_053) });
  await comeTo(1, 'to its node port');
  await opener.do({ op: 'update', published: [], addresses: led(30_054) });
  await comeTo(2, 'to another');
  await opener.do({ op: 'update', published: [] });
  await comeTo(0, 'and to the host again');
});

t.test('published ports change under connections, which go on', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  for (const port of [8080, 8081]) await tellPeer(inside, port);
  await opener.do({ op: 'open', published: tcp(8080) });
  const connection = client.start(['socat', '-', `TCP:${own[4]}:8080`]);
  await connection.says(clientIp[4]);
  await opener.do({ op: 'update', published: tcp(8081) });
  connection.write('still there?\n');
  await connection.says('still there?');
  t.equal(await seenAs(client, own[4], 8080), undefined, 'but no new ones');
  t.equal(await seenAs(client, own[4], 8081), clientIp[4]);
  await opener.do({ op: 'update', published: [...tcp(8080), ...tcp(8081)] });
  t.equal(await seenAs(client, own[4], 8080), clientIp[4]);
  await opener.do({ op: 'update', published: [] });
  t.equal(await seenAs(client, own[4], 8081), undefined);
  connection.write('and now?\n');
  await connection.says('and now?');
  t.match(await host.run(['nft', 'list', 'sets']), /published4 \{/);
});

t.test('UDP that never pauses follows what is published', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  const sinks = {
    host: host.start(python('udp_probe_sink.py', 5300)),
    inside: inside.start(python('udp_probe_sink.py', 5300)),
  };
  for (const sink of Object.values(sinks)) await sink.says('ready');
  await opener.do({ op: 'open' });
  for (const family of families) client.start(python('udp_probe.py', own[family], 5300));
  // To the same port, but on another host.
  await client.start(python('udp_answer.py', 5300)).says('ready');
  const session = inside.start(['socat', '-', `UDP:${clientIp[4]}:5300`]);
  session.write('one\n');
  await session.says('eno');

  /** Waits until all probes arrive at one of them. */
  const comeTo = async (where: keyof typeof sinks, what: string): Promise<void> => {
    const other = sinks[where === 'host' ? 'inside' : 'host'];
    let [since, stays] = [0, -1];
    const isSettled = (): boolean => {
      if (other.lines.length !== stays) [since, stays] = [sinks[where].lines.length, other.lines.length];
      return sinks[where].lines.length >= since + 50;
    };
    await until(isSettled, { what });
    t.pass(what);
  };
  await comeTo('host', 'not published yet');
  await opener.do({ op: 'update', published: udp(5300) });
  await comeTo('inside', 'published');
  await host.run(['nft', 'flush', 'ruleset']);
  await opener.do({ op: 'renew' });
  await comeTo('inside', 'and again, after the rules were gone');
  session.write('two\n');
  await session.says('owt');
  await opener.do({ op: 'update', published: [] });
  await comeTo('host', 'not published any more');
  await opener.do({ op: 'update', published: udp(5300) });
  await comeTo('inside', 'published');
  await opener.do({ op: 'close' });
  await comeTo('host', 'no outside any more');
});

t.test('a port is published also where the table was taken away', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(inside, 8080);
  await opener.do({ op: 'open' });
  for (const damage of ['flush ruleset', 'flush table inet weft']) {
    await host.run(['nft', damage]);
    await opener.do({ op: 'update', published: tcp(8080) });
    t.equal(await seenAs(client, own[4], 8080), clientIp[4], damage);
    t.same(await opener.do({ op: 'renew' }), { renewed: [] });
    await opener.do({ op: 'update', published: [] });
  }
});
