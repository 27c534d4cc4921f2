/**
 * Stalls: how long a host with a thousand endpoints and a hundred thousand flows lets other work wait, for each of
 * the operations that touch all of them. The daemon's own metrics say it.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Lab } from '../support/lab.ts';
import { run as runCommand, until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';
import { parseManifests } from '../../src/model/manifest.ts';
import type { EndpointReport } from '../../src/model/report.ts';
import type { Report, Scenario } from './scenario.ts';

const ENDPOINTS = 1000;
const SENDERS = 100;
const TIMES = 5;
/** A scrape is one of many things that the daemon does beside its work. */
const LONGEST_SCRAPE_MS = 50;

export const stalls: readonly Scenario[] = [{ name: `stalls/${ENDPOINTS}`, run }];

/** Sends one frame from each of the first SENDERS endpoints to each other: as many flows. */
const SENDER = `
import ctypes, json, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
endpoints, senders = json.load(sys.stdin)
mac = lambda text: bytes.fromhex(text.replace(':', ''))
for one in endpoints[:senders]:
    with open(one['netns']) as netns:
        assert libc.setns(netns.fileno(), 0x40000000) == 0
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind(('eth0', 0))
    for n, other in enumerate(endpoints):
        if other is one: continue
        ip = bytes.fromhex('450000240001000040110000') + socket.inet_aton(one['ip']) + socket.inet_aton(other['ip'])
        total = sum(int.from_bytes(ip[i:i + 2], 'big') for i in range(0, 20, 2))
        total = (total & 0xffff) + (total >> 16)
        ip = ip[:10] + (~total & 0xffff).to_bytes(2, 'big') + ip[12:]
        udp = bytes.fromhex('303930390010000000000000')
        out.send(mac(other['mac']) + mac(one['mac']) + b'\\x08\\x00' + ip + udp + b'weft')
        if n % 50 == 0: time.sleep(0.005)
    out.close()
`;

async function run(report: Report): Promise<void> {
  const lab = new Lab();
  try {
    const host = await lab.namespace('host');
    const config = `${lab.directory}/weft.yaml`;
    writeFileSync(config, 'flowIdleMs: 3600000\n');
    const weft = await Weft.up(lab, host, 'host', { datapath: 'native', arguments: ['--config', config] });
    await weft.client.createNetwork('blue', { subnets: ['10.0.0.0/16'] });
    const namespaces = await lab.namespaces(Array.from({ length: ENDPOINTS }, (_, n) => `c${n}`));
    const manifests = namespaces
      .map(
        ({ name }, n) =>
          `---\napiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: { name: c${n} }\nspec: { network: blue, netns: ${name} }\n`,
      )
      .join('');
    const resources = parseManifests(manifests, 'all.yaml');
    const longest = async (what: string, work: () => Promise<unknown>): Promise<number> => {
      await stall(weft);
      const startedAt = performance.now();
      await work();
      const tookMs = performance.now() - startedAt;
      const ms = await stall(weft);
      report.figure(`${what}: other work waits up to ${ms.toFixed(0)} ms (took ${tookMs.toFixed(0)} ms)`);
      return ms;
    };
    await longest(`apply ${ENDPOINTS} endpoints`, () => weft.client.apply(resources));
    const endpoints = await weft.client.endpoints();
    await longest('cache flows', () => cacheFlows(weft, endpoints));
    report.figure(`${(await weft.status()).datapath.flows} flows`);
    const times = async (work: () => Promise<unknown>): Promise<void> => {
      for (let n = 0; n < TIMES; n++) await work();
    };
    await longest('nothing', () => delay(3000));
    await longest('status', () => times(() => weft.status()));
    let scrapedMs = 0;
    await stall(weft);
    for (let n = 0; n < TIMES; n++) {
      const text = await weft.client.metricsText();
      scrapedMs = Math.max(scrapedMs, delayIn(text));
    }
    report.must(scrapedMs <= LONGEST_SCRAPE_MS, `scrape: other work waits up to ${scrapedMs.toFixed(0)} ms`);
    await longest('list endpoints', () => times(() => weft.client.endpoints()));
    await longest('get endpoints', () => times(() => weft.client.get('Endpoint')));
    await longest('list flows', () => weft.client.flows());
    await longest('doctor', () => weft.client.doctor());
    await longest('apply all again', () => weft.client.apply(resources));
    await longest('attach one again', () =>
      weft.client.attach({ name: 'c0', network: 'blue', netns: namespaces[0]!.name }),
    );
    await longest('detach one', () => weft.client.detach('c1'));
    await longest('change the MTU', () => weft.client.createNetwork('blue', { mtu: 1400 }));
    await longest('delete 100', async () => {
      for (let n = 2; n < 102; n++) await weft.client.detach(`c${n}`);
    });
  } finally {
    await lab.close();
  }
}

async function cacheFlows(weft: Weft, endpoints: readonly EndpointReport[]): Promise<void> {
  const all = endpoints.map(({ netns, mac, addresses: [ip] }) => ({ netns, mac, ip }));
  await runCommand(['python3', '-c', SENDER], { input: JSON.stringify([all, SENDERS]), timeoutMs: 300_000 });
  let before = -1;
  await until(
    async () => {
      const { upcalls } = (await weft.status()).datapath;
      const isDone = upcalls === before;
      before = upcalls;
      await delay(500);
      return isDone;
    },
    { what: 'all flows decided' },
  );
}

/** The longest delay since the scrape before, which is that of the scrape before. */
function delayIn(text: string): number {
  const [, seconds = '0'] = /^weft_event_loop_delay_max_seconds (\S+)$/m.exec(text) ?? [];
  return Number(seconds) * 1000;
}

/** The longest delay of the daemon's event loop since this was called last, in milliseconds. */
async function stall(weft: Weft): Promise<number> {
  const metric = (await weft.client.metrics()).find(({ name }) => name === 'weft_event_loop_delay_max_seconds');
  return (metric!.values[0]?.value ?? 0) * 1000;
}
