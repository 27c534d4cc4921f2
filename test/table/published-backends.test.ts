/** To whom packets from outside may come by other hosts, against a naive twin. */
import t from 'tap';
import { formatIp, parseIp, type Vni } from '../../src/flow/types.ts';
import type { Service } from '../../src/table/service.ts';
import { publishedPortsOf } from '../../src/table/published-backends.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { Random } from '../support/random.ts';
import { randomService } from '../support/random-services.ts';
import { backends, BLUE, servicePort, service, serviceTable } from '../support/services.ts';

const seed = Number(process.env['SEED'] ?? (process.hrtime.bigint() % 1_000_000n).toString());

t.test('the ports of a backend are its own, also those of a range', async (t) => {
  const ports = [
    servicePort(2, { nodePort: 30_080, targets: [8080, 0] }),
    servicePort(2, { l4Port: 81, targets: [8081, 8081] }),
    servicePort(2, { l4Port: 5060, lastL4Port: 5062, nodePort: 31_000, targets: [7060, 7060] }),
    servicePort(2, { protocol: IP_UDP, l4Port: 53, nodePort: 30_053, targets: [5353, 5353] }),
  ];
  const services = [service({ ports, backends: backends(2) })];
  const portsOf = (ip: string, protocol: number, vni = BLUE) => publishedPortsOf(services, vni, parseIp(ip), protocol);
  const range = { first: 7060, last: 7062 };
  t.same(portsOf('10.0.1.1', IP_TCP), [{ first: 8080, last: 8080 }, range]);
  t.same(portsOf('10.0.1.2', IP_TCP), [range], 'it does not have the first one');
  t.same(portsOf('10.0.1.1', IP_UDP), [{ first: 5353, last: 5353 }]);
  t.same(portsOf('10.0.1.3', IP_TCP), []);
  t.same(portsOf('10.0.1.1', IP_TCP, 7 as Vni), [], 'the same address in another network');
});

t.test('an address with several ports of slices is several backends, all of which are published', async (t) => {
  const twice = [...backends(1), ...backends(1)];
  const ports = [servicePort(2, { nodePort: 30_080, targets: [8080, 9090] })];
  const found = publishedPortsOf([service({ ports, backends: twice })], BLUE, parseIp('10.0.1.1'), IP_TCP);
  t.same(found, [
    { first: 8080, last: 8080 },
    { first: 9090, last: 9090 },
  ]);
});

t.test(`as a naive twin has it, and whoever asked is told of each change (seed ${seed})`, async (t) => {
  const random = new Random(seed);
  const { services, changes } = serviceTable();
  const declared = new Map<string, Service>();
  const possible = backends(6);
  const publishing = ({ address }: { readonly address: Uint8Array }): string[] =>
    [...declared.values()]
      .filter(({ externalPolicy, ports }) => externalPolicy === 'cluster' && ports.some(({ nodePort }) => nodePort))
      .filter((one) => one.backends.some((backend) => formatIp(backend.address) === formatIp(address)))
      .map(({ id }) => id)
      .sort();
  let published = 0;
  for (let round = 0; round < 500; round++) {
    const before = possible.map((one) => publishing(one).join());
    const id = random.pick(['a/a', 'b/b', 'c/c']);
    if (random.chance(0.2)) {
      declared.delete(id);
      services.remove(id);
    } else {
      const value = randomService(random, { id, vips: [], possible });
      declared.set(id, value);
      services.set(value, round);
    }
    const { changed, added } = changes.drain();
    const told = new Set([...changed, ...added]);
    for (const [at, one] of possible.entries()) {
      const now = publishing(one);
      published += now.length;
      t.same([...services.published.servicesOf(one.address)].sort(), now);
      const isIn = services.published.addresses.has(one.address);
      t.equal(isIn, now.length > 0);
      if (before[at] === now.join()) continue;
      t.ok(told.has(`published-backend/${formatIp(one.address)}`));
      if (before[at] === '') t.ok(told.has('published-backends'));
    }
  }
  t.ok(published > 500, `${published} were published`);
});
