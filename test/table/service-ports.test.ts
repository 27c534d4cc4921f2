/**
 * Ports of a service that become part of a range, or are taken out of one: connections by a number that still leads to the
 * same port of their backend go on, and all others end.
 *
 *   web: 5070 → 5070        web: 5060-5080 → the same numbers of each backend
 */
import t from 'tap';
import { parseIp } from '../../src/flow/types.ts';
import { ConnectionTable } from '../../src/table/connections.ts';
import type { ServicePort } from '../../src/table/service.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';
import { connectionMemoryFor, stores } from '../support/connections.ts';
import { backend, backends, BLUE, service, servicePort, serviceTable, VIP } from '../support/services.ts';

const BACKENDS = 2;
const all = backends(BACKENDS);

function ports(first: number, last = first, given: Partial<ServicePort> = {}): ServicePort {
  return servicePort(BACKENDS, { l4Port: first, lastL4Port: last, targets: [first, first], ...given });
}

for (const [kind, openStore] of Object.entries(stores)) {
  function lab({ memory = connectionMemoryFor(32), isLoaded = true } = {}) {
    const { services } = serviceTable({ isLoaded });
    const connections = new ConnectionTable({
      ...{ store: openStore(32, memory), quota: 32, unprovenQuota: 32, natKey: new Uint8Array(8) },
      ...{ addressesWith: (_, ip) => [ip], isReserved: () => false, services },
    });
    const set = (given: readonly ServicePort[], of = all): void =>
      services.set(service({ ports: given, backends: of }), 0);
    /** Opens a connection to that port of the service. */
    const open = (sourcePort: number, destinationPort: number, protocol = IP_TCP): void => {
      const original = { source: parseIp('10.0.0.2'), sourcePort, destination: VIP, destinationPort };
      const choice = services.choose(services.find(VIP, protocol, destinationPort)!, BLUE, { protocol, ...original });
      if (choice.kind === 'none') throw new Error(choice.why);
      connections.open({ vni: BLUE, protocol, original, choice, replies: BLUE }, 0);
    };
    /** Ends what has to end. Returns the ports that these have asked for. */
    const ended = (): number[] => {
      const found = [...connections.pinned(services.ended(0)), ...connections.strayed(services.strayed)];
      for (const { slot } of found) connections.retire(slot, 0);
      services.strayed.clear();
      return found.map(({ original }) => original.destinationPort).sort((a, b) => a - b);
    };
    const left = (): number[] =>
      [...connections.entries()]
        .filter((one) => one.kind === 'translated')
        .map(({ original }) => original.destinationPort)
        .sort((a, b) => a - b);
    return { memory, services, connections, set, open, ended, left };
  }

  t.test(`${kind}: a single port becomes part of a range, and is one by itself again`, async (t) => {
    const { set, open, ended, left } = lab();
    set([ports(5070)]);
    open(1, 5070);
    set([ports(5060, 5080)]);
    t.same(ended(), []);
    open(2, 5075);
    open(3, 5070);
    set([ports(5070)]);
    t.same(ended(), [5075], 'that number is none of the service any more');
    t.same(left(), [5070, 5070]);
    set([ports(5070, 5070, { targets: [7000, 7000] })]);
    t.same(ended(), [5070, 5070], 'it leads to another port');
  });

  t.test(`${kind}: two ports become one range, and all connections still end with their backend`, async (t) => {
    const { services, set, open, ended, left } = lab();
    const two = [ports(5060), ports(5070)];
    set(two);
    for (let n = 0; n < 8; n++) open(1 + n, n % 2 === 0 ? 5060 : 5070);
    const open8 = (): number =>
      services.connectionsOf('default/web', ({ connections }) => connections).reduce((sum, count) => sum + count);
    t.equal(open8(), 8);
    for (let turn = 0; turn < 3; turn++) {
      set([ports(5060, 5080)]);
      t.same(ended(), []);
      t.equal(open8(), 8);
      set(two);
      t.same(ended(), []);
    }
    set([ports(5060, 5080)]);
    open(20, 5065);
    set([ports(5060, 5080)], [all[0]!]);
    t.equal(ended().length + left().length, 9);
    t.equal(left().length, services.connectionsOf('default/web', ({ connections }) => connections)[0]);
    set([ports(5070)], [all[0]!]);
    ended();
    t.ok(left().every((port) => port === 5070));
    set([ports(5060)], [all[0]!]);
    ended();
    t.same(left(), []);
  });

  t.test(`${kind}: a range gets further numbers in front, loses some, or is cut by a port of its own`, async (t) => {
    const { services, set, open, ended, left } = lab();
    set([ports(5061, 5069), ports(5061, 5069, { protocol: IP_UDP })]);
    open(1, 5065);
    open(2, 5069);
    open(3, 5062, IP_UDP);
    const udp = ports(5061, 5069, { protocol: IP_UDP });
    set([ports(5050, 5069), udp]);
    t.same(ended(), []);
    open(4, 5050);
    set([ports(5050, 5064), ports(5065), ports(5066, 5069), udp]);
    t.same(ended(), []);
    set([ports(5066, 5069), udp]);
    t.same(ended(), [5050, 5065]);
    t.same(left(), [5062, 5069]);
    set([udp]);
    t.same(ended(), [5069]);
    services.remove('default/web');
    t.same(ended(), [5062]);
  });

  t.test(`${kind}: after a crash, what the service does not have any more ends, too`, async (t) => {
    const { memory, set, open } = lab();
    const only = all.slice(0, 1);
    set([ports(5060, 5080)], only);
    for (const [n, port] of [5070, 5060, 5080].entries()) open(1 + n, port);
    const again = lab({ memory, isLoaded: false });
    again.connections.recover(0);
    again.set([ports(5065, 5080)], only);
    again.services.loaded(0);
    t.same(again.ended(), [5060]);
    t.same(again.left(), [5070, 5080]);
    again.set([ports(5065, 5080)], [backend('10.0.9.9')]);
    t.same(again.ended(), [5070, 5080]);
  });
}
