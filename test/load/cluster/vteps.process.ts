/**
 * Plays the VTEPs of many hosts: each has its address, answers and sends probes as the reference datapath does, and tells when
 * the first frame for an address arrives.
 *
 *   node --import=tsx vteps.process.ts DAEMON-UNDERLAY       driven by messages (`players.ts`)
 */
import { createSocket, type Socket } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { ReferenceLiveness } from '../../../src/datapath/reference/liveness.ts';
import { formatIp, parseIp } from '../../../src/flow/types.ts';
import { monotonicMs } from '../../support/process.ts';
import { PROBE_VNI } from '../../../src/wire/probe.ts';
import { ETH_HEADER_BYTES } from '../../../src/wire/ethernet.ts';
import { buildVxlan, parseVxlan, VXLAN_L4_PORT } from '../../../src/wire/vxlan.ts';
import { underlayOf } from './endpoint-records.ts';
import type { PlayerAnswer, VtepOrder } from './players.ts';

const IPV4_DESTINATION = ETH_HEADER_BYTES + 16;
/** How often probes that are due are sent. */
const RUN_MS = 10;
const LIVENESS = { intervalMs: 300, multiplier: 3 };

const [daemon = ''] = process.argv.slice(2);
const daemonAddress = parseIp(daemon);
const heard = new Set<string>();
const vteps: { readonly run: () => void }[] = [];

function tell(answer: PlayerAnswer): void {
  process.send!(answer);
}

async function open(host: number, key: Uint8Array): Promise<void> {
  const underlay = underlayOf(host);
  const socket: Socket = createSocket('udp4');
  const liveness = new ReferenceLiveness();
  liveness.configure(
    { ...LIVENESS, session: randomBytes(8), peers: [{ address: daemonAddress, key }], vnis: [] },
    monotonicMs(),
  );
  liveness.open(parseIp(underlay), monotonicMs());
  socket.on('message', (payload) => {
    const vxlan = parseVxlan(payload);
    if (!vxlan) return;
    if (vxlan.vni === PROBE_VNI) {
      liveness.receive(daemonAddress, vxlan.frame, monotonicMs());
      return;
    }
    const address = vxlan.frame.subarray(IPV4_DESTINATION, IPV4_DESTINATION + 4).join('.');
    if (heard.has(address)) return;
    heard.add(address);
    tell({ kind: 'arrived', address, underlay, atMs: monotonicMs() });
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(VXLAN_L4_PORT, underlay, resolve);
  });
  vteps[host] = {
    run: () => {
      liveness.run(monotonicMs(), (to, _, frame) =>
        socket.send(buildVxlan({ vni: PROBE_VNI, frame }), VXLAN_L4_PORT, formatIp(to)),
      );
    },
  };
}

setInterval(() => {
  for (const vtep of vteps) vtep.run();
}, RUN_MS);

process.on('message', (order: VtepOrder) => {
  const work = async (): Promise<void> => {
    for (let host = vteps.length; host < order.hosts; host++) await open(host, Buffer.from(order.key, 'hex'));
    heard.clear();
  };
  work().then(
    () => tell({ kind: 'done' }),
    (error: unknown) => tell({ kind: 'failed', why: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
tell({ kind: 'done' });
