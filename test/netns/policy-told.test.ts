/**
 *   ┌ host ───────────────────────────────────────────────────┐
 *   │ web   (namespace shop, app: web)  ─┐                    │     db answers over TCP 9000, IPv4 and IPv6
 *   │ guest (namespace ops)             ─┴─ weft ── db (shop) │
 *   └─────────────────────────────────────────────────────────┘
 *
 * What policies deny and end is told: by apply, in the log, by `weft policy log`, `drops`, `why` and `trace`, with who was at both
 * ends and what decides it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ApplyReport, DropReport, WhyReport } from '../../src/model/report.ts';
import type { PolicyEventReport, TalkFilter } from '../../src/model/talk-report.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const server = `
import socket, threading
def echo(c):
    while (data := c.recv(64)): c.sendall(data)
def echoes(s):
    while True:
        c, _ = s.accept(); threading.Thread(target=echo, args=(c,), daemon=True).start()
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    s = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 9000)); s.listen(128)
    threading.Thread(target=echoes, args=(s,)).start()
print('listening', flush=True)
`;

/** Opens a connection, and keeps it open. */
const holder = `
import socket, sys
s = socket.create_connection((sys.argv[1], 9000)); s.sendall(b'.'); s.recv(1)
print('open', flush=True)
sys.stdin.read()
`;

/** Begins one conversation, over TCP or UDP, and prints the error that it gets within a second, or nothing. */
const knocker = `
import socket, sys
address, kind = sys.argv[1:3]
s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
s.settimeout(1)
try:
    s.connect((address, 9000))
    if kind == 'udp': s.send(b'?')
    s.recv(1); print('answered')
except OSError as e: print(type(e).__name__)
`;

const forWeb = `# Who may talk to db
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db, namespace: shop }
spec:
  podSelector: { matchLabels: { app: db } }
  ingress:
    - from: [{ podSelector: { matchLabels: { app: web } } }]
      ports: [{ port: 9000 }]
`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath });
    await weft.createNetwork(overlay.create);
    const file = join(lab.directory, 'db.yaml');
    const apply = (text: string, ...more: string[]): Promise<string> => {
      writeFileSync(file, text);
      return weft.run('apply', '-f', file, ...more);
    };
    await apply(
      ['shop', 'ops'].map((name) => `{ apiVersion: v1, kind: Namespace, metadata: { name: ${name} } }`).join('\n---\n'),
    );
    const attach = async (name: string, at: number, ...more: string[]) => {
      const inside = await lab.namespace(name);
      const [ip4, ip6] = overlayIps(at);
      await weft.attach(inside, { name, network: overlay.network, arguments: [...more, '--ip', ip4, '--ip', ip6] });
      return { inside, ip4, ip6 };
    };
    const db = await attach('db', 12, '-n', 'shop', '--label', 'app=db');
    const web = await attach('web', 13, '-n', 'shop', '--label', 'app=web');
    const guest = await attach('guest', 14, '-n', 'ops');
    const listening = db.inside.start(['python3', '-u', '-c', server]);
    await listening.says('listening');
    const hold = async (from: Namespace, address: string): Promise<void> => {
      const program = from.start(['python3', '-u', '-c', holder, address]);
      await program.says('open');
    };
    const knock = async (from: Namespace, address: string, kind = 'tcp'): Promise<string> =>
      (await from.run(['python3', '-c', knocker, address, kind])).trim();
    const events = async (...filters: string[]): Promise<PolicyEventReport[]> =>
      (await weft.json('policy', 'log', ...filters)) as PolicyEventReport[];

    await t.test('apply, the log and the policy log name the connections that a policy ends', async (t) => {
      await hold(web.inside, db.ip4);
      await hold(guest.inside, db.ip4);
      await hold(guest.inside, db.ip6);
      const said = await apply(forWeb);
      t.match(said, /networkpolicy\/shop\/db created\n/);
      for (const address of [db.ip4, db.ip6]) {
        const cut = said.split('\n').find((line) => line.includes(address)) ?? '';
        t.match(cut, /^ {2}cut 1 connection: tcp ops\/guest /);
        t.ok(cut.includes(`isolated for ingress by networkpolicy shop/db (${file}:2)`), cut);
        t.ok(cut.includes(`spec.ingress[0] (${file}:8)`), cut);
      }
      t.notMatch(said, /shop\/web/, 'what is allowed stays');
      t.match(weft.log(), /connections cut/);
      const cuts = (await events()).filter(({ event }) => event === 'cut');
      t.same(
        cuts.map(({ from, to, connections }) => [from, to, connections]),
        [
          ['ops/guest', 'shop/db', 1],
          ['ops/guest', 'shop/db', 1],
        ],
      );
    });

    await t.test('they are counted', async (t) => {
      t.equal((await weft.status()).policies.cut, 2);
      t.match(await weft.run('metrics'), /weft_policy_cut_connections_total +.*2/);
    });

    await t.test('the answer in JSON has them with the policy, and delete and label name them, too', async (t) => {
      await weft.run('delete', 'netpol', 'db', '-n', 'shop');
      await hold(guest.inside, db.ip4);
      const [report] = JSON.parse(await apply(forWeb, '-o', 'json')) as ApplyReport[];
      t.match(report, { kind: 'NetworkPolicy', swept: [{ from: 'ops/guest', to: 'shop/db', connections: 1 }] });
      await hold(web.inside, db.ip6);
      t.match(await weft.run('label', 'ep', 'web', 'app-', '-n', 'shop'), /cut \d connections?: tcp shop\/web/);
      await weft.run('label', 'ep', 'web', 'app=web', '-n', 'shop');
    });

    await t.test('a packet that is denied: trace before, and drops, why and the policy log after it', async (t) => {
      for (const address of [db.ip4, db.ip6]) {
        const word = address.includes(':') ? 'tcp6' : 'tcp';
        const traced = (await weft.json(
          'trace',
          `in_port=ops/guest,${word},${word === 'tcp' ? 'ip_dst' : 'ipv6_dst'}=${address},tcp_dst=9000`,
        )) as WhyReport['decision'];
        t.not(await knock(guest.inside, address), 'answered');
        const denied = (await events('--to', address)).findLast(({ event }) => event === 'denied')!;
        t.match(denied, { from: 'ops/guest', to: 'shop/db', reason: 'policy_ingress', protocol: 'tcp' });
        t.match(denied.judgement, {
          because: { kind: 'isolated', policies: [{ name: 'shop/db', source: `${file}:2` }] },
          nearest: { rule: 'spec.ingress[0]', differsIn: 'peer', source: `${file}:8` },
        });
        const why = (await weft.json('why', denied.id!)) as WhyReport;
        t.same(why.decision?.judgements, [denied.judgement], 'why');
        t.same(traced?.judgements, [denied.judgement], 'trace says it before');
        t.match(
          await weft.attempt('drops', '--to', 'shop/db', '--from', 'guest'),
          { code: 1, stderr: /from: endpoint "guest" does not exist/ },
          'it is in another namespace',
        );
        const [drop] = (await weft.json('drops', '--to', 'shop/db', '--from', 'ops/guest')) as DropReport[];
        t.match(drop, { reason: 'policy_ingress', packet: { to: 'shop/db' } });
        t.ok(drop!.because!.includes('isolated for ingress by networkpolicy shop/db'));
      }
    });

    await t.test('filters', async (t) => {
      const count = async (of: TalkFilter = {}): Promise<number> => (await weft.client.policyLog(of)).length;
      const all = await count();
      t.equal(await count({ endpoint: 'shop/db' }), all);
      t.equal(await count({ to: 'ops/guest' }), 0);
      t.equal(await count({ network: overlay.network, since: '1h', reason: 'policy_ingress' }), all);
      await t.rejects(count({ network: 'other' }), { code: 'not_found', message: /^network "other" does not exist/ });
      t.equal(await count({ reason: 'policy_egress' }), 0);
      t.equal((await count({ to: db.ip4 })) + (await count({ to: db.ip6 })), all);
      t.equal(
        await count({ from: `${guest.ip4}/32`, to: `${db.ip4}/32` }),
        (await events('--from', guest.ip4, '--to', db.ip4)).length,
      );
      t.match(await weft.attempt('policy', 'log', '--reason', 'policy_ingres'), {
        code: 1,
        stderr: /did you mean "policy_ingress"/,
      });
      t.match(await weft.attempt('drops', '--since', 'yesterday'), { code: 1, stderr: /since/ });
      await until(
        async () => {
          await knock(guest.inside, db.ip4);
          return (await weft.client.flows({ to: 'shop/db', from: 'ops/guest', reason: 'policy_ingress' })).length > 0;
        },
        { what: 'its flow is listed' },
      );
      for (const verb of [['flows'], ['drops'], ['policy', 'log']]) {
        t.match(await weft.attempt(...verb, '--to', 'ops/none'), {
          code: 1,
          stderr: /to: endpoint "ops\/none" does not exist: `weft endpoints` shows those that do/,
        });
      }
    });

    await t.test('the line of a rule follows the file, and a policy that says the same is unchanged', async (t) => {
      t.match(await apply(`# More words\n${forWeb}`), /shop\/db unchanged/);
      await weft.run('get', 'netpol', 'db', '-n', 'shop', '-o', 'yaml').then(async (text) => {
        t.match(text, new RegExp(`weft.dev/source: .*db.yaml:3 ingress=9`));
        writeFileSync(join(lab.directory, 'again.yaml'), text);
        t.match(await weft.run('apply', '-f', join(lab.directory, 'again.yaml')), /shop\/db unchanged/);
      });
      await knock(guest.inside, db.ip4, 'udp');
      t.equal((await events('--from', 'ops/guest')).at(-1)?.judgement.nearest?.source, undefined, 'no rule is for UDP');
      await knock(web.inside, db.ip4, 'udp');
      t.match((await events('--from', 'shop/web')).at(-1)?.judgement.because, { policies: [{ source: `${file}:3` }] });
    });

    await t.test('staged: what it would cut and deny is told, and nothing is', async (t) => {
      await hold(web.inside, db.ip4);
      const staged = forWeb
        .replace('name: db, namespace: shop', 'name: later, namespace: ops, annotations: { weft.dev/staged: "true" }')
        .replaceAll('ops', 'shop')
        .replace('app: web', 'app: api');
      await weft.run('delete', 'netpol', 'db', '-n', 'shop');
      t.match(
        await apply(staged),
        /staged, would cut \d connections?: tcp shop\/web .* > shop\/db .*networkpolicy shop\/later/,
      );
      await hold(guest.inside, db.ip6);
      const told = (await events('--from', 'ops/guest')).at(-1)!;
      t.match(told, { event: 'staged', judgement: { verdict: 'allow', staged: { verdict: 'deny' } } });
      t.match(
        await weft.run('trace', `in_port=ops/guest,tcp,ip_dst=${db.ip4},tcp_dst=9000`),
        /with what is staged it would be denied/,
      );
      await weft.run('delete', 'netpol', 'later', '-n', 'shop');
    });

    await t.test('on-deny: reject tells the sender at once, in both directions and families', async (t) => {
      const closed = (name: string, namespace: string, type: string): string =>
        `{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: { name: ${name}, namespace: ${namespace}, annotations: { weft.dev/on-deny: reject } }, spec: { podSelector: {}, policyTypes: [${type}] } }`;
      for (const [policy, said] of [
        [closed('in', 'shop', 'Ingress'), 'policy_ingress'],
        [closed('out', 'ops', 'Egress'), 'policy_egress'],
      ] as const) {
        await apply(policy);
        for (const address of [db.ip4, db.ip6])
          for (const kind of ['tcp', 'udp'])
            t.equal(await knock(guest.inside, address, kind), 'ConnectionRefusedError', `${said} ${kind} ${address}`);
        const [v4, v6] = await Promise.all(
          [db.ip4, db.ip6].map((address) => guest.inside.attempt(['ping', '-c', '1', '-W', '5', address])),
        );
        t.match(v4!.stdout, /Packet filtered/, 'ICMP 3/13');
        t.match(v6!.stdout, /Administratively prohibited/, 'ICMPv6 1/1');
        await weft.run('delete', '-f', file);
      }
      await apply(
        '{ apiVersion: v1, kind: Namespace, metadata: { name: shop, annotations: { weft.dev/on-deny: reject } } }',
      );
      await apply(forWeb);
      t.equal(await knock(guest.inside, db.ip4), 'ConnectionRefusedError', 'as the namespace has it');
    });

    await t.test('followed', async (t) => {
      const command = (...words: string[]) => lab.start(weft.command(words));
      const past = command('policy', 'log', '--follow', '--since', '1h', '--to', 'shop/db');
      await past.says('cut');
      const log = command('policy', 'log', '--follow', '--from', 'ops/guest');
      const drops = command('drops', '--follow', '--reason', 'policy_egress');
      const closed = forWeb
        .replace('name: db, namespace: shop', 'name: out, namespace: ops')
        .replace(/ {2}podSelector[^]*/, '  podSelector: {}\n  policyTypes: [Egress]\n');
      await apply(closed);
      await until(
        async () => {
          await knock(guest.inside, web.ip4, 'udp');
          return /policy_egress/.test(drops.stdout) && /out/.test(log.stdout);
        },
        { what: 'followers are told' },
      );
      t.match(
        log.stdout,
        /denied .* udp ops\/guest .* > shop\/web .*: egress, isolated for egress by networkpolicy ops\/out/,
      );
      t.notMatch(drops.stdout, /policy_ingress/);
      await weft.run('delete', 'netpol', 'out', '-n', 'ops');
      for (const one of [past, log, drops]) await one.stop('SIGINT');
    });
  });
}
