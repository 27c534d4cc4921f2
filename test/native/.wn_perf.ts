import { openNativeDatapath } from '/work/main/src/datapath/native.ts';
import { extract } from '/work/main/src/flow/extract.ts';
import * as frames from '/work/main/test/support/frames.ts';
import { emptyKey } from '/work/main/src/flow/key.ts';
import { maskOf, output, encap, flowId, portNo } from '/work/main/test/conformance/harness.ts';
import { parseIp } from '/work/main/src/flow/types.ts';
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
const mk = (threads: 0 | 1) => openNativeDatapath({ threads, flowLimit: 2_000_000, clock: () => performance.now(), onUpcall: () => {}, onPortLost: () => {} });
function rate(dp: ReturnType<typeof mk>, label: string) {
  const key = emptyKey(); extract(frames.udp({}, 1, 2), key); const mask = maskOf('in_port', 'ip_src', 'ip_dst', 'l4_src');
  const n = 200_000; const t0 = performance.now();
  for (let i = 0; i < n; i++) { key[76] = i >> 8; key[77] = i; key[40] = i >> 16; dp.flowPut({ id: flowId(i + 1), key, mask, actions: output(2) }); dp.execute(123, output(2)); }
  console.log(label, Math.round(n / (performance.now() - t0)), 'k flowPut+execute/s', dp.counters().flows);
}
const m = mk(0); rate(m, 'manual'); m.close();
const rss = process.memoryUsage().rss;
const d = mk(1); rate(d, 'threaded idle'); console.log('rss per flow', (process.memoryUsage().rss - rss) / 200000);
// idle CPU
const tid = readdirSync('/proc/self/task').find((t) => readFileSync(`/proc/self/task/${t}/comm`, 'utf8').startsWith('weft-'))!;
const ticks = () => readFileSync(`/proc/self/task/${tid}/stat`, 'utf8').split(' ').slice(13, 15).join('+');
console.log('worker cpu ticks', ticks());
// under load: VXLAN datagrams from a child on loopback, flow: everything from port 1 → encap elsewhere
d.portAdd(portNo(1), { kind: 'vxlan', name: 'v', local: parseIp('127.0.0.91'), l4Port: 31999 });
const k = emptyKey(); k[3] = 1;
d.flowPut({ id: flowId(900000), key: k, mask: maskOf('in_port'), actions: [encap(5, '127.0.0.92')] });
const child = spawn('python3', ['-c', `
import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('127.0.0.93',0))
f=bytes.fromhex('0800000000000500')+bytes.fromhex('${Buffer.from(frames.udp({}, 1, 2)).toString('hex')}')
import time
e=time.time()+4
while time.time()<e:
  for i in range(100): s.sendto(f,('127.0.0.91',31999))
`]);
await new Promise((r) => setTimeout(r, 1000));
const c0 = d.counters(); const t0 = performance.now();
rate(d, 'threaded loaded');
const c1 = d.counters(); console.log('rx rate meanwhile', Math.round((c1.rx - c0.rx) / (performance.now() - t0)), 'kpps');
await new Promise((r) => setTimeout(r, 1000));
const c2 = d.counters(); const t2 = performance.now();
await new Promise((r) => setTimeout(r, 1000));
console.log('rx rate alone', Math.round((d.counters().rx - c2.rx) / (performance.now() - t2)), 'kpps');
await new Promise((r) => child.on('exit', r));
await new Promise((r) => setTimeout(r, 200));
const a = ticks(); await new Promise((r) => setTimeout(r, 1500)); console.log('idle ticks', a, ticks());
d.close();
