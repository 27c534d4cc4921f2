/**
 *   podman ─► plugin ─► weft ─── safe, client, keep
 *
 * podman on one host: policies select containers by the labels of podman's network and by those that they are given, and a container
 * whose machine was rebooted starts again with its address and its port. Nothing is left of any.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { Podman } from '../support/podman.ts';
import { until } from '../support/process.ts';
import { Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const SERVE = ['busybox', '/bin/sh', '-c', 'echo hello > /tmp/index.html; exec /bin/httpd -f -p 80 -h /tmp'];
const POLICY = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: guard }
spec:
  podSelector: { matchLabels: { tier: guarded } }
  ingress: [{ from: [{ podSelector: { matchLabels: { role: friend } } }] }]
`;

await t.test('podman on one host', async (t) => {
  const lab = openLab(t);
  const host = await lab.namespace('host');
  await host.ip('address add 192.0.2.1/24 dev lo');
  const weft = await Weft.up(lab, host, 'host', { datapath: 'native' });
  await weft.createNetwork('blue --subnet 10.44.0.0/24 --outside');
  const podman = await Podman.up(lab, weft, 'blue');
  const list = JSON.parse(await weft.run('cni', 'config', 'blue')) as { readonly plugins: readonly object[] };
  const guarded = list.plugins.map((plugin) => ({
    ...plugin,
    ...{ network: 'blue', 'weft.dev/labels': { tier: 'guarded' } },
  }));
  podman.configure('20.conflist', JSON.stringify({ ...list, name: 'guarded', plugins: guarded }));
  const isGone = async (name: string): Promise<boolean> =>
    !(await weft.client.endpoints()).some((endpoint) => endpoint.name === name);

  await t.test('policies select by label', async () => {
    await podman.run('run', '--detach', '--name', 'safe', '--network', 'guarded', ...SERVE);
    await podman.run('run', '--detach', '--name', 'client', '--network', 'blue', 'busybox', '/bin/sleep', '100000');
    const gets = async (): Promise<boolean> =>
      (await podman.attempt('exec', 'client', '/bin/ping', '-c', '1', '-W', '2', 'safe')).code === 0;
    await until(gets, { what: 'the container answers' });
    const file = join(lab.directory, 'guard.yaml');
    writeFileSync(file, POLICY);
    await weft.run('apply', '-f', file);
    await until(async () => !(await gets()), { what: 'the policy holds' });
    await weft.run('label', 'endpoint', 'client', 'role=friend');
    await until(gets, { what: 'its friends are let in' });
    await podman.run('rm', '--force', '--time', '0', 'safe', 'client');
  });

  await t.test('a reboot', async (t) => {
    const words = ['--name', 'keep', '--network', 'blue', '--ip', '10.44.0.50', '-p', '18090:80'];
    await podman.run('run', '--detach', ...words, ...SERVE);
    const answers = async (): Promise<boolean> =>
      (await host.attempt(['busybox', 'wget', '-q', '-O', '-', 'http://192.0.2.1:18090/'])).stdout === 'hello\n';
    await until(answers, { what: 'its port answers' });
    await podman.crash('keep');
    await until(() => isGone('keep'), { what: 'weft sees that its namespace is gone' });
    await podman.run('start', 'keep');
    await until(answers, { what: 'its port answers again' });
    t.match(await weft.client.endpoints(), [{ name: 'keep', addresses: ['10.44.0.50'] }], 'and nothing else is there');
    await podman.run('rm', '--force', '--time', '0', 'keep');
  });

  t.same(await weft.client.endpoints(), [], 'no address is left');
  t.same(
    (await weft.status()).ports.map(({ name }) => name).filter((name) => !['outside', 'internal'].includes(name)),
    [],
  );
  t.same(await host.links(), ['weft0'], 'no interface either');
  t.notMatch(await host.run(['nft', 'list', 'table', 'inet', 'weft']), /18090/, 'and no port');
});
