/** `weft services`, and what `weft connections`, `why` and `trace` say of connections through services. */
import t from 'tap';
import { endsText } from '../../src/cli/connections.ts';
import { decisionText } from '../../src/cli/decision.ts';
import { serviceRow } from '../../src/cli/service-table.ts';
import type { ServiceBackendReport, ServiceEvent, ServiceNews, ServiceReport } from '../../src/model/service-report.ts';
import { balanced, choice, connection, decision, service, untilFollowers } from '../api/fake-switch.ts';
import { until } from '../support/process.ts';
import { finish, fixture } from './fixture.ts';

t.setTimeout(600_000);

t.test('services are listed, and one is shown with its backends', async (t) => {
  const { weft } = await fixture(t);
  const heads = 'NAME +ADDRESSES +PORTS +READY +CONNECTIONS +METHOD +AFFINITY';
  const row = String.raw`shop +10\.96\.0\.80 +80:30080/TCP +1/2 +12\.3k +maglev +ClientIP 3h0m`;
  const failed = String.raw`shop: backend 10\.0\.0\.4: ejected: no answer to 3 connections`;
  const list = (await weft(['services'])).stdout;
  t.match(list, new RegExp(`^${heads}\n${row}\n\n${failed}\n$`));
  t.equal((await weft(['services', '-A'])).stdout, list, 'all namespaces are the default');
  const wide = new RegExp(`^${heads} +EXTERNAL +POLICY [^]*\n${row} +- +Cluster +Local +none +30s\n`);
  t.match((await weft(['services', '-o', 'wide'])).stdout, wide);
  t.same(JSON.parse((await weft(['services', '-o', 'json'])).stdout), [service]);
  t.equal((await weft(['services', '-o', 'name'])).stdout, 'service/shop\n');
  t.match((await weft(['services', '-n', 'other'])).stdout, /^No services in namespace "other": /);

  const one = (await weft(['services', 'shop'])).stdout;
  t.match(one, /^Service: +shop\nAddresses: +10\.96\.0\.80\nPorts: +http 80:30080\/TCP\nMethod: +maglev\n/);
  t.match(one, /\nBACKEND +ADDRESS +PORTS +HOST +STATE +WEIGHT +CONNECTIONS +WHY\n/);
  t.match(one, /\ndefault\/db +10\.0\.0\.3 +8080 +a +ready +2 +12\.3k +-\n/);
  t.match(one, /\n10\.0\.0\.4 +10\.0\.0\.4 +- +b +ejected +1 +0 +no answer to 3 connections\n$/);
  t.match((await weft(['services', 'shop', '-o', 'wide'])).stdout, / NETWORK +ZONE +WHY\n[^]* blue +z1 +-\n/);
  t.same(JSON.parse((await weft(['services', 'default/shop', '-o', 'json'])).stdout), service);
  t.match((await weft(['services', 'shop', '-o', 'yaml'])).stdout, /^name: shop\n/);

  t.match(await weft(['services', 'none']), { code: 1, stderr: 'weft: there is no Service "none"\n' });
  t.match(await weft(['services', 'shop', '-A']), { code: 2, stderr: /give either NAME or -A/ });
  t.match(await weft(['services', 'a/shop', '-n', 'b']), { code: 2, stderr: /-n, which gives the namespace/ });
});

t.test('an endpoint with addresses of both families is one backend of READY', (t) => {
  const [db, other] = service.backends as [ServiceBackendReport, ServiceBackendReport];
  const both = [db, { ...db, address: 'fd00::3', state: 'ejected' as const }, other];
  const ready = (backends: ServiceBackendReport[]): unknown => serviceRow({ ...service, backends }, false)[3];
  t.equal(ready(both), '1/2', 'it gets connections by one of them');
  t.equal(ready([...both, { ...other, address: '10.0.0.5', state: 'ready' }]), '2/3', 'addresses without an endpoint');
  t.equal(ready([]), '0/0');
  t.equal(serviceRow({ ...service, externalName: 'db.example.org', backends: [] }, false)[3], '', 'only another name');
  t.end();
});

t.test('services --watch shows what there is, and then every change', async (t) => {
  const { sw, start, weft } = await fixture(t);
  const [db, other] = service.backends as [ServiceBackendReport, ServiceBackendReport];
  const blog: ServiceReport = { ...service, name: 'blog', backends: [] };
  const changed: ServiceReport = {
    ...service,
    backends: [
      { ...db, connections: 7 },
      { ...other, state: 'ready' },
    ],
  };
  const smaller: ServiceReport = { ...service, backends: [{ ...db, connections: 7 }] };
  const tell = (news: ServiceNews | undefined): void => {
    for (const one of [...sw.serviceFollowers]) one(news);
  };
  const told = (...events: ServiceEvent[]): void => tell({ events, isListed: false });
  const formats = {
    table: ['services', '--watch'],
    backends: ['services', 'shop', '-w'],
    json: ['services', '-w', '-o', 'json'],
    events: ['services', '-w', '-o', 'json', '--output-watch-events'],
    names: ['services', '-w', '-o', 'name', '--output-watch-events'],
  } as const;
  const running = Object.entries(formats).map(([name, words]) => ({ name, finished: finish(start(words)) }));
  await untilFollowers(sw, () => sw.serviceFollowers.size === running.length);
  const events: ServiceEvent[] = [
    { type: 'ADDED', object: service },
    { type: 'MODIFIED', object: changed },
    { type: 'MODIFIED', object: smaller },
    { type: 'DELETED', object: { name: 'shop', namespace: 'default' } },
  ];
  tell({ events: events.slice(0, 1), isListed: true });
  for (const event of events.slice(1)) told(event);
  tell(undefined);
  const printed = new Map<string, string>();
  for (const { name, finished } of running) {
    const { code, stdout, stderr } = await finished;
    t.equal(code, 0, name);
    t.equal(stderr, 'weft: the daemon has stopped\n');
    printed.set(name, stdout);
  }
  const lines = (name: string): string[] => printed.get(name)!.trimEnd().split('\n');
  t.same(
    lines('table').map((line) => line.split(/ {2,}/)),
    [
      ['NAME', 'ADDRESSES', 'PORTS', 'READY', 'CONNECTIONS', 'METHOD', 'AFFINITY', 'EVENT'],
      ['shop', '10.96.0.80', '80:30080/TCP', '1/2', '12.3k', 'maglev', 'ClientIP 3h0m', 'ADDED'],
      ['shop', '10.96.0.80', '80:30080/TCP', '2/2', '7', 'maglev', 'ClientIP 3h0m', 'MODIFIED'],
      ['shop', '10.96.0.80', '80:30080/TCP', '1/1', '7', 'maglev', 'ClientIP 3h0m', 'MODIFIED'],
      ['shop', '10.96.0.80', '80:30080/TCP', '1/1', '7', 'maglev', 'ClientIP 3h0m', 'DELETED'],
    ],
  );
  t.same(
    lines('backends').map((line) => line.split(/ {2,}/)),
    [
      ['BACKEND', 'ADDRESS', 'PORTS', 'HOST', 'STATE', 'WEIGHT', 'CONNECTIONS', 'WHY', 'EVENT'],
      ['default/db', '10.0.0.3', '8080', 'a', 'ready', '2', '12.3k', '-', 'ADDED'],
      ['10.0.0.4', '10.0.0.4', '-', 'b', 'ejected', '1', '0', 'no answer to 3 connections', 'ADDED'],
      ['default/db', '10.0.0.3', '8080', 'a', 'ready', '2', '7', '-', 'MODIFIED'],
      ['10.0.0.4', '10.0.0.4', '-', 'b', 'ready', '1', '0', 'no answer to 3 connections', 'MODIFIED'],
      ['10.0.0.4', '10.0.0.4', '-', 'b', 'ready', '1', '0', 'no answer to 3 connections', 'DELETED'],
      ['default/db', '10.0.0.3', '8080', 'a', 'ready', '2', '7', '-', 'DELETED'],
    ],
  );
  const whole = [...events.slice(0, 3), { type: 'DELETED', object: smaller }];
  t.same(
    lines('json').map((line) => JSON.parse(line) as unknown),
    whole.map(({ object }) => object),
  );
  t.same(
    lines('events').map((line) => JSON.parse(line) as unknown),
    whole,
  );
  t.same(
    lines('names'),
    ['ADDED', 'MODIFIED', 'MODIFIED', 'DELETED'].map((type) => `${type} service/shop`),
  );

  const child = start(['services', '--watch']);
  const interrupted = finish(child);
  await untilFollowers(sw, () => sw.serviceFollowers.size === 1);
  let shown = '';
  child.stdout!.on('data', (text: string) => (shown += text));
  tell({ events: [service, blog].map((object) => ({ type: 'ADDED', object })), isListed: true });
  await until(() => shown.includes('shop'), { what: 'the list' });
  t.match(shown, /^NAME .*\nblog .*\nshop .*\n$/, 'sorted');
  child.kill('SIGINT');
  t.match(await interrupted, { code: 0, stderr: '' });
  await untilFollowers(sw, () => sw.serviceFollowers.size === 0);

  t.match(await weft(['services', 'none', '-w']), { code: 1, stderr: 'weft: there is no Service "none"\n' });
  t.match(await weft(['services', '--output-watch-events']), { code: 2, stderr: /is about --watch: give both/ });
});

const chosen = `Backend of service default/shop, port http, 80/TCP, by maglev:
  -> default/db on a, 10.0.0.3:8080, weight 2: one of 2 candidates, by the hash of the connection
     default/other, [fd00::5]:8080, weight 1
     not 10.0.0.4 on b: it is ejected: no answer to 3 connections
`;

t.test('connections of weft itself are listed with --all, and always in JSON', async (t) => {
  const { sw, weft } = await fixture(t);
  const gateway = { ...connection, direction: 'gateway' as const };
  const question = { ...gateway, id: 'c5', source: '10.0.0.10:5000', destination: '10.0.0.1:53' };
  const check = {
    ...gateway,
    ...{ id: 'c6', from: null, to: 'default/db', source: '169.254.1.1:1', destination: '169.254.1.2:2' },
    ...{ translatedSource: '10.0.0.1:6000', translatedDestination: '10.0.0.3:80' },
  };
  sw.connections = async function* () {
    yield* [balanced, question, check];
  };
  const few = (await weft(['connections'])).stdout;
  t.match(few, /^ID [^\n]*\nc4 [^\n]*\n\n2 of weft itself \(DNS, health checks\): --all shows them\n$/);
  const { stdout } = await weft(['connections', '-a']);
  t.match(stdout, /\nc5 .* default\/web 10\.0\.0\.10:5000 +weft 10\.0\.0\.1:53 +- +- +7\/5 /);
  t.match(stdout, /\nc6 .* weft 10\.0\.0\.1:6000 +default\/db 10\.0\.0\.3:80 +- +- +7\/5 /);
  t.notMatch(stdout, '--all');
  t.equal((JSON.parse((await weft(['connections', '-o', 'json'])).stdout) as unknown[]).length, 3);
  t.match(endsText(check), '\nFrom: weft 10.0.0.1:6000\nTo: default/db 10.0.0.3:80\n');
});

t.test('connections are selected by endpoint, service and network', async (t) => {
  const { sw, weft } = await fixture(t);
  const asked: unknown[] = [];
  const { connections } = sw;
  sw.connections = (of) => {
    asked.push(of);
    return connections(of);
  };
  await weft(['connections', '--endpoint', 'web', '--service', 'shop/cart', '--network', 'blue']);
  await weft(['connections', '--service', 'a&b']);
  t.match(asked, [{ endpoint: 'web', service: 'shop/cart', network: 'blue' }, { service: 'a&b' }]);
});

t.test('why a connection has its backend, and which one a trace finds', async (t) => {
  const { weft } = await fixture(t);
  t.equal(
    (await weft(['why', 'c4'])).stdout,
    `Connection c4: tcp, established
From: default/web 10.0.0.2:40001
Service: default/shop:http, 10.96.0.80:80
To: default/db 10.0.0.3:8080
Passed: 7 packets of 800 bytes, back 5 packets of 90.0k bytes

${chosen}`,
  );
  t.ok(decisionText({ ...decision, choice }).endsWith(`\n\n${chosen}`));
});
