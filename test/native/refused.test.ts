/**
 * Real hosts believe the answers to refused frames: a connection ends at once, with the error that the answer stands
 * for, whether it was about to open or open already.
 *
 *   ┌ a ┐ eth0 ── datapath ── eth0 ┌ b ┐
 */
import t from 'tap';
import { openPort } from '../../src/datapath/datapath.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import type { Action } from '../../src/flow/action.ts';
import { fields } from '../../src/flow/fields.ts';
import { readNumber } from '../../src/flow/key.ts';
import type { RefusalAnswer } from '../../src/flow/refusal.ts';
import { parseIp } from '../../src/flow/types.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';
import { checkConservation, flowId, maskOf, output, portNo } from '../conformance/harness.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';

const SERVER = `require('net').createServer((socket) => { socket.on('error', (e) => console.log('server', e.code)).pipe(socket); })
  .listen(7000, '::', () => console.log('listening'))`;
/** Says when it is connected, sends all the time, and says how it ended. */
const client = (ip: string): string => `const socket = require('net').connect(7000, '${ip}');
  socket.on('connect', () => console.log('connected')).on('data', () => socket.write('x'))
    .on('error', (e) => { console.log('client', e.code); process.exit(); });
  socket.write('x')`;

await t.test('answers to TCP', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  let refused: RefusalAnswer | undefined;
  let flows = 0;
  const dp = openNativeDatapath({
    threads: 1,
    flowCap: 1000,
    clock: () => performance.now(),
    onPortLost: () => {},
    onUpcall: (batch) => {
      for (const { token, key } of batch) {
        const from = readNumber(key, fields.in_port);
        const isRefused = refused && from === 1 && readNumber(key, fields.ip_proto) === IP_TCP;
        const actions: Action[] = isRefused
          ? [{ op: 'refuse', reason: 'no_route', answer: refused! }]
          : output(3 - from);
        const mask = maskOf('in_port', 'eth_type', 'ip_proto');
        dp.flowPut({ id: flowId(++flows), key, mask, actions });
        dp.execute(token, actions);
      }
    },
  });
  t.teardown(() => dp.close());
  /** From now on, TCP from `a` is answered so. */
  const refuse = (answer: RefusalAnswer | undefined): void => {
    refused = answer;
    for (const { id } of [...dp.flowDump()]) dp.flowDel(id);
  };
  for (const [host, namespace] of [
    [1, a],
    [2, b],
  ] as const) {
    openPort(dp, portNo(host), { kind: 'tap', name: `tap${host}`, netns: namespace.path, ifname: 'eth0' });
    await namespace.ip(`address add 10.77.0.${host}/24 dev eth0`);
    await namespace.ip('link set eth0 up');
    await namespace.ip(`address add fd77::${host}/64 dev eth0 nodad`);
  }
  await b.start([process.execPath, '-e', SERVER]).says('listening');

  for (const [ip, from] of [
    ['10.77.0.2', '10.77.0.254'],
    ['fd77::2', 'fd77::fe'],
  ] as const) {
    const ended = async (): Promise<string> => (await a.run([process.execPath, '-e', client(ip)])).trim();
    const errors = {
      net_unreachable: 'ENETUNREACH',
      host_unreachable: 'EHOSTUNREACH',
      port_unreachable: 'ECONNREFUSED',
      prohibited: from.includes(':') ? 'EACCES' : 'EHOSTUNREACH',
    } as const;
    for (const [kind, error] of Object.entries(errors)) {
      refuse({ kind: kind as keyof typeof errors, from: parseIp(from) });
      t.equal(await ended(), `client ${error}`, `${ip}: ${kind}`);
    }
    refuse({ kind: 'tcp_reset' });
    t.equal(await ended(), 'client ECONNREFUSED', `${ip}: a SYN`);
    refuse(undefined);
    const talking = a.start([process.execPath, '-e', client(ip)]);
    await talking.says('connected');
    refuse({ kind: 'tcp_reset' });
    await talking.says('client ECONNRESET');
  }
  checkConservation(dp.counters());
});
