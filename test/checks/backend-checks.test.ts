/** What is checked: the backends of this host, of services that ask for it, and what becomes of the results. */
import t from 'tap';
import { BackendChecks, type BackendVerdict } from '../../src/checks/backend-checks.ts';
import { HealthLog } from '../../src/checks/health-log.ts';
import { parseIp, parseMac, type PortNo } from '../../src/flow/types.ts';
import type { BackendCheck } from '../../src/table/service.ts';
import { backend, BLUE, service, serviceTable } from '../support/services.ts';

const check: BackendCheck = {
  ...{ type: 'http', path: '/up', intervalMs: 1000, timeoutMs: 500, failures: 3, successes: 2 },
  targets: [8080, 8081, 8080, 0],
};
const web = service({
  check,
  backends: [
    backend('10.0.1.1', { endpoint: 'default/one', host: 'here' }),
    backend('fd00::2', { endpoint: 'shop/two', host: 'here' }),
    backend('10.0.1.3', { endpoint: 'default/three', host: 'there' }),
    backend('10.0.1.4', { endpoint: 'default/four', host: 'here' }),
  ],
});

function lab() {
  const { topology } = serviceTable();
  const verdicts: BackendVerdict[] = [];
  const soon: (() => void)[] = [];
  const checks = new BackendChecks({
    ...{ topology, hostName: 'here', later: (work) => void soon.push(work) },
    onVerdict: (verdict) => verdicts.push(verdict),
  });
  const attach = (portNo: number, name: string, ...addresses: string[]): void => {
    topology.setPort({
      ...{ portNo: portNo as PortNo, name, vni: BLUE, mac: parseMac(`02:00:00:00:00:0${portNo}`) },
      ...{ addresses: addresses.map(parseIp), allowedAddresses: [], allowedEtherTypes: [], trust: false },
    });
  };
  let news = 0;
  checks.restart(() => news++);
  const taken = (): string[] =>
    checks
      .take()
      .map((change) =>
        change.kind === 'remove'
          ? `-${change.id}`
          : `${change.target.id} at ${change.target.address} ${change.target.l4Port}`,
      );
  const say = (id: string, why?: string): void => checks.server.onSaid!({ id, why });
  const settle = (): void => soon.splice(0).forEach((work) => work());
  return { topology, checks, verdicts, attach, taken, say, settle, news: () => news };
}

t.test('backends of this host that are attached, by the address of their client', async (t) => {
  const { topology, checks, attach, taken, settle, news } = lab();
  checks.setService(web);
  t.same(taken(), [], 'nobody is attached');
  attach(3, 'one', '10.0.1.9', '10.0.1.1');
  attach(4, 'shop/two', 'fd00::2');
  attach(5, 'three', '10.0.1.3');
  settle();
  t.same(taken(), ['default/web/10.0.1.1 at 17.0.0.1 8080', 'default/web/fd00::2 at fd77:6566:7432::2 8081']);
  t.ok(news() > 0);
  t.same(checks.statistics, { checked: 2, failing: 0 });
  checks.setService({ ...web });
  t.same(taken(), [], 'nothing new');
  checks.setService({ ...web, check: { ...check, intervalMs: 2000 } });
  t.equal(taken().length, 2);
  topology.removePort(3 as PortNo);
  attach(6, 'one', '10.0.1.1');
  settle();
  t.same(taken(), ['default/web/10.0.1.1 at 16.0.0.4 8080'], 'another client by now');
  topology.removePort(4 as PortNo);
  settle();
  t.same(taken(), ['-default/web/fd00::2']);
  checks.restart(() => {});
  t.same(taken(), ['default/web/10.0.1.1 at 16.0.0.4 8080'], 'a thread that starts is told everything');
  checks.setService({ ...web, check: undefined });
  t.same(taken(), ['-default/web/10.0.1.1']);
  checks.removeService(web.id);
  t.same(checks.statistics, { checked: 0, failing: 0 });
});

t.test('results are told when they are news, and over when nothing is checked any more', async (t) => {
  const { checks, verdicts, attach, say } = lab();
  attach(3, 'one', '10.0.1.1');
  checks.setService(web);
  const id = 'default/web/10.0.1.1';
  const told = { service: 'default/web', address: '10.0.1.1', why: 'HTTP port 8080: status 503' };
  say(id);
  say('default/web/10.0.1.3', 'nobody checks this one');
  t.same(verdicts, []);
  say(id, 'status 503');
  say(id, 'status 503');
  t.same(verdicts.splice(0), [told]);
  t.same(checks.statistics, { checked: 1, failing: 1 });
  checks.restart(() => {});
  checks.setService({ ...web, check: { ...check, failures: 1 } });
  t.same(verdicts, [], 'it stays until something else is found out');
  say(id);
  t.same(verdicts.splice(0), [{ ...told, why: undefined }]);
  say(id, 'status 503');
  verdicts.splice(0);
  checks.removeService(web.id);
  t.same(verdicts, [{ ...told, why: undefined }]);
});

t.test('many changes at once are not many lines', async (t) => {
  let nowMs = 0;
  const lines: object[] = [];
  const log = new HealthLog(
    (level, details, message) => lines.push({ level, message, ...details }),
    () => nowMs,
  );
  const change = { service: 'default/web', backend: 'default/one' };
  for (let i = 0; i < 1000; i++) log.changed({ ...change, what: 'ejected', why: 'no answer' });
  t.equal(lines.length, 50);
  t.same(lines[0], { level: 'warn', message: 'backend ejected', ...change, why: 'no answer' });
  nowMs = 200;
  log.changed({ ...change, what: 'back' });
  t.match(lines[50], { level: 'info', message: 'backend is back', leftOut: 950 });
  t.equal(lines.length, 51);
});
