/**
 *   ┌ host ───────────────────────────────────────────────┐
 *   │ web (red)  ─┐                                        │
 *   │ shop (blue) ┴─ weft ─ internal ─ checks who asks     │
 *   │                              a namespace of its own  │
 *   └─────────────────────────────────────────────────────┘
 *
 * Sockets of weft itself that open connections: health checks reach the containers of this host, of whatever network.
 */
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { ECHO_PORT } from '../internal/port.ts';
import { bundled } from '../support/bundled.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { python } from '../support/traffic.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.jobs = datapathKinds.length;

const dialing = bundled(new URL('../internal/dialing.ts', import.meta.url));
const script = bundled(new URL('../internal/daemon.process.ts', import.meta.url));

/** Answers every request with this status, by both families, and says who has asked. */
const server = (status: number): string[] => [
  process.execPath,
  '--eval',
  `require('node:http').createServer((request, response) => {
     console.log('asked by ' + request.socket.remoteAddress);
     response.writeHead(${status}).end();
   }).listen(8080, '::', () => console.log('ready'))`,
];

for (const datapath of datapathKinds) {
  t.test(`health checks from weft’s own sockets, ${datapath}`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const daemon = [process.execPath, script, '--module', pathToFileURL(dialing).href];
    const weft = await Weft.up(lab, host, 'host', { datapath, daemon });
    const containers = await Promise.all(
      [['web', 'red', 44] as const, ['shop', 'blue', 45] as const].map(async ([role, network, n]) => {
        await weft.client.createNetwork(network, { subnets: [`10.${n}.0.0/24`, `fd${n}::/64`] });
        const namespace = await lab.namespace(role);
        await weft.attach(namespace, { name: role, network });
        return { namespace, gateways: [`10.${n}.0.1`, `fd${n}::1`] };
      }),
    );
    for (const [at, { namespace, gateways }] of containers.entries()) {
      const check = async (what: string): Promise<string> =>
        (await namespace.run(python('gateway_ask.py', 'udp', gateways[0]!, ECHO_PORT, what))).trim();
      for (const family of ['4', '6']) {
        t.equal(await check(`tcp 8080 ${family}`), 'refused', 'nobody listens');
        t.equal(await check(`http 8080 ${family}`), 'refused');
      }
      const program = namespace.start(server(at === 0 ? 204 : 503));
      await program.says('ready');
      for (const family of ['4', '6']) {
        t.equal(await check(`tcp 8080 ${family}`), 'works');
        t.equal(
          await check(`http 8080 ${family}`),
          at === 0 ? 'works' : 'status 503',
          'of this container, not the other',
        );
      }
      await program.says(`asked by ::ffff:${gateways[0]}`);
      await program.says(`asked by ${gateways[1]}`);
      await program.stop('SIGKILL');
    }
    t.match(await weft.json('connections', '--endpoint', 'web'), [{ direction: 'gateway' }]);
  });
}
