/**
 * A network, an address, two containers, a Service, a policy and health, in a program of its own. As root:
 *
 *   ip netns add web; ip netns add shop; node examples/library/shop.mjs web shop
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSwitch } from 'weft';

const [client = 'web', server = 'shop'] = process.argv.slice(2);
const state = mkdtempSync(join(tmpdir(), 'weft-library-'));
const sw = await createSwitch({ state });
try {
  const network = await sw.createNetwork('my-vnet', { subnets: ['10.77.0.0/24'] });
  const ip = await network.allocateIp();
  const backend = await network.attach({ netns: server, ip, labels: { app: 'shop' } });
  console.log(`${backend.name} has ${backend.ip}, as allocated: ${backend.ip === ip}`);
  await network.attach({ netns: client });

  await sw.services.apply('shop', { selector: { app: 'shop' }, ports: [{ port: 80, targetPort: 8080 }] });
  const [vip] = (await sw.services.get('shop')).addresses;
  for (const { endpoint, state } of await sw.health.backends('shop')) console.log(`backend ${endpoint} is ${state}`);

  const flow = `in_port=${client},tcp,ip_dst=${vip},tcp_dst=80`;
  console.log(`without a policy: ${(await sw.trace(flow)).verdict}`);
  await sw.policies.apply('fence', { podSelector: { matchLabels: { app: 'shop' } }, ingress: [] });
  console.log(`with one that lets nobody in: ${(await sw.trace(flow)).verdict}`);
  console.log(`endpoints: ${(await network.endpoints()).map(({ name }) => name).join(', ')}`);
} finally {
  await sw.close({ purge: true });
  rmSync(state, { recursive: true });
}
