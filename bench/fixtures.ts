/** Flows and tables for the micro-benchmarks: the same in every run. */
import { extract } from '../src/flow/extract.ts';
import { emptyKey, type FlowKey } from '../src/flow/key.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../src/flow/types.ts';
import type { Tables } from '../src/pipeline/stage.ts';
import { noConnections } from '../src/datapath/datapath.ts';
import { ReferenceConnections } from '../src/datapath/reference/connections.ts';
import { Changes } from '../src/table/changes.ts';
import { ConnectionTable } from '../src/table/connections.ts';
import { Fdb } from '../src/table/fdb.ts';
import { NeighborTable } from '../src/table/neighbor.ts';
import { Hooks } from '../src/table/hooks.ts';
import { Policies } from '../src/table/policies.ts';
import { Services } from '../src/table/services.ts';
import { hostMacOf, Topology } from '../src/table/topology.ts';
import { fields } from '../src/flow/fields.ts';
import { writeNumber } from '../src/flow/key.ts';
import { udp } from '../test/support/frames.ts';

const VNI = 100 as Vni;

/** UDP from one endpoint to another, each to a different port. */
export function udpFrames(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) =>
    udp(
      { srcMac: '02:00:00:00:00:02', dstMac: '02:00:00:00:00:03', src: '10.0.0.2', dst: '10.0.0.3' },
      1000,
      1 + (i % 65_535),
    ),
  );
}

/** The keys of frames that come in by the first endpoint's port. */
export function keysOf(frames: readonly Uint8Array[]): FlowKey[] {
  return frames.map((frame) => {
    const key = emptyKey();
    extract(frame, key);
    writeNumber(key, fields.in_port, 2);
    return key;
  });
}

/** One network with `endpoints` local ports. */
export function tables(endpoints: number): Tables {
  const changes = new Changes();
  const topology = new Topology(hostMacOf(Uint8Array.of(0, 0, 1)), changes);
  const fdb = new Fdb({ quota: 2048, ageingMs: 300_000 }, changes);
  const neighbors = new NeighborTable({ quota: 64 }, changes);
  topology.setNetwork({ name: 'blue', vni: VNI });
  for (let i = 2; i < 2 + endpoints; i++) {
    const mac = parseMac(
      `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 0xff).toString(16).padStart(2, '0')}`,
    );
    const ip = parseIp(`10.0.${i >> 8}.${i & 0xff}`);
    topology.setPort({
      portNo: i as PortNo,
      name: `p${i}`,
      vni: VNI,
      mac,
      addresses: [ip],
      allowedAddresses: [],
      allowedEtherTypes: [],
      trust: false,
    });
    fdb.setStatic(VNI, mac, { kind: 'port', port: i as PortNo });
    neighbors.set(VNI, ip, mac);
  }
  const services = new Services(topology, changes);
  return {
    topology,
    fdb,
    neighbors,
    services,
    policies: new Policies(changes),
    hooks: new Hooks(changes),
    connections: new ConnectionTable({
      store: new ReferenceConnections(noConnections()),
      quota: 0,
      unprovenQuota: 0,
      addressesWith: (_, ip) => [ip],
      natKey: new Uint8Array(8),
      isReserved: () => false,
      services,
    }),
  };
}
