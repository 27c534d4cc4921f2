/** Which endpoint an address belongs to, and so which one its connections count towards. */
import t from 'tap';
import { formatIp, parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { Changes } from '../../src/table/changes.ts';
import { Topology, type AccessPort } from '../../src/table/topology.ts';

const vni = 100 as Vni;
const virtual = parseIp('10.0.0.100');

function port(portNo: number, allowedAddresses: readonly Uint8Array[]): AccessPort {
  return {
    portNo: portNo as PortNo,
    name: `port${portNo}`,
    vni,
    mac: parseMac(`02:00:00:00:00:0${portNo}`),
    addresses: [parseIp(`10.0.0.${portNo}`)],
    allowedAddresses,
    allowedEtherTypes: [],
    trust: false,
  };
}

t.test('an address that several may send from always belongs to one of them', async (t) => {
  const topology = new Topology(parseMac('02:00:00:00:00:ff'), new Changes());
  topology.setNetwork({ vni, name: 'blue', mtu: 1500 });
  const withVirtual = (): string[] => topology.addressesWith(vni, virtual).map(formatIp);
  for (const portNo of [3, 4, 5]) topology.setPort(port(portNo, [virtual]));
  t.same(withVirtual(), ['10.0.0.3', '10.0.0.100'], 'who came first has it');
  topology.removePort(3 as PortNo);
  t.same(withVirtual(), ['10.0.0.4', '10.0.0.100'], 'when that one goes, another has it');
  topology.setPort(port(4, []));
  t.same(withVirtual(), ['10.0.0.5', '10.0.0.100'], 'and when it may not send from it any more');
  topology.removePort(5 as PortNo);
  t.same(withVirtual(), ['10.0.0.100'], 'at last nobody');
});
