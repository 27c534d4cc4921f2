/**
 *   ┌ host ───────────────────────────────────────────────────┐
 *   │ web  (namespace shop, app: web)   ─┐                    │     db answers over TCP 8080 and UDP 5353,
 *   │ other (namespace shop)            ─┼─ weft ── db (shop) │     IPv4 and IPv6
 *   │ guest (namespace ops)             ─┘                    │
 *   └─────────────────────────────────────────────────────────┘
 *
 * Policies say who reaches db. Real programs notice, and `weft why` says what has decided.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openEmbeddedStore } from '../../src/store/embedded.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

/** Answers over TCP to port 8080 and over UDP to port 5353, of both families; and echoes whatever comes to TCP port 9000. */
const server = `
import socket, threading
def tcp(s):
    while True:
        c, _ = s.accept(); c.sendall(b'yes'); c.close()
def udp(s):
    while True:
        _, peer = s.recvfrom(64); s.sendto(b'yes', peer)
def echo(c):
    while (data := c.recv(64)): c.sendall(data)
def echoes(s):
    while True:
        c, _ = s.accept(); threading.Thread(target=echo, args=(c,), daemon=True).start()
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for kind, port, run in ((socket.SOCK_STREAM, 8080, tcp), (socket.SOCK_DGRAM, 5353, udp), (socket.SOCK_STREAM, 9000, echoes)):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM: s.listen(128)
        threading.Thread(target=run, args=(s,)).start()
print('listening', flush=True)
`;

/** Asks each address over TCP and UDP, all at once, and prints yes or no for each. */
const client = `
import socket, sys, threading
wait = float(sys.argv[1])
def ask(n, address, kind):
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, kind)
    s.settimeout(wait)
    try:
        s.connect((address, 8080 if kind == socket.SOCK_STREAM else 5353))
        if kind == socket.SOCK_DGRAM: s.send(b'?')
        said[n] = s.recv(64).decode() or 'closed'
    except OSError:
        said[n] = 'no'
cells = [(address, kind) for address in sys.argv[2:] for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
said = [''] * len(cells)
threads = [threading.Thread(target=ask, args=(n, *cell)) for n, cell in enumerate(cells)]
for one in threads: one.start()
for one in threads: one.join()
print(' '.join(said))
`;

/** Sends a byte whenever it is asked to, over one connection, and prints what becomes of it. */
const talker = `
import socket, sys
s = socket.create_connection((sys.argv[1], 9000)); s.settimeout(float(sys.argv[2]))
print('open', flush=True)
for line in sys.stdin:
    try: s.sendall(b'.'); print('answered' if s.recv(1) else 'closed', flush=True)
    except OSError as e: print(type(e).__name__, flush=True)
`;

const policy = (name: string, spec: object, namespace = 'shop', annotations: object = {}): object => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace, annotations },
  spec: { podSelector: {}, ...spec },
});
const forDb = { podSelector: { matchLabels: { app: 'db' } } };

type Cells = Readonly<Record<string, readonly string[]>>;
const all = (yes: string): Cells => ({ web: [yes], other: [yes], guest: [yes] });

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath });
    await weft.createNetwork(overlay.create);
    const file = join(lab.directory, 'policies.json');
    const apply = async (...resources: readonly object[]): Promise<string> => {
      writeFileSync(file, resources.map((one) => JSON.stringify(one)).join('\n---\n'));
      return weft.run('apply', '-f', file);
    };
    const namespace = (name: string, labels: object = {}): object => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name, labels },
    });
    await apply(namespace('shop'), namespace('ops'));
    const attach = async (name: string, at: number, ...more: string[]) => {
      const inside = await lab.namespace(name);
      const [ip4, ip6] = overlayIps(at);
      await weft.attach(inside, { name, network: overlay.network, arguments: [...more, '--ip', ip4, '--ip', ip6] });
      return { inside, ip4, ip6 };
    };
    const db = await attach('db', 12, '-n', 'shop', '--label', 'app=db');
    const clients: Readonly<Record<string, { readonly inside: Namespace; readonly ip4: string }>> = {
      web: await attach('web', 13, '-n', 'shop', '--label', 'app=web'),
      other: await attach('other', 14, '-n', 'shop'),
      guest: await attach('guest', 15, '-n', 'ops'),
    };
    const listening = db.inside.start(['python3', '-u', '-c', server]);
    await listening.says('listening');

    const asked = async (from: Namespace, waitS: number): Promise<string> =>
      (await from.run(['python3', '-c', client, String(waitS), db.ip4, db.ip6])).trim();
    /** Everybody asks over TCP and UDP, IPv4 and IPv6. What is answered must be answered in the end; what is not, at once. */
    const reach = async (t: Test, expected: Cells, what: string): Promise<void> => {
      for (const [name, [yes]] of Object.entries(expected)) {
        const { inside } = clients[name]!;
        const cells = yes === 'yes' ? 'yes yes yes yes' : 'no no no no';
        t.equal(await asked(inside, yes === 'yes' ? 20 : 1), cells, `${what}: ${name}`);
      }
    };
    const drops = async (reason: string): Promise<number> => (await weft.status()).datapath.drops[reason] ?? 0;

    await t.test('nothing selects it: everybody talks to it', (t) => reach(t, all('yes'), 'no policy'));

    await t.test('default deny', async (t) => {
      const before = await drops('policy_ingress');
      await apply(policy('closed', {}));
      await reach(t, all('no'), 'default deny');
      t.ok((await drops('policy_ingress')) >= before + 12, 'each of them is counted');
    });

    await t.test('what is allowed by the labels of the client', async (t) => {
      const from = (peer: object): object => policy('allowed', { ...forDb, ingress: [{ from: [peer] }] });
      await apply(from({ podSelector: { matchLabels: { app: 'web' } } }));
      await reach(t, { web: ['yes'], other: ['no'], guest: ['no'] }, 'of its own namespace');
      await weft.run('label', 'ep', 'other', 'app=web', '-n', 'shop');
      await reach(t, { web: ['yes'], other: ['yes'], guest: ['no'] }, 'a label is given');
      await weft.run('label', 'ep', 'web', 'app-', '-n', 'shop');
      await reach(t, { web: ['no'], other: ['yes'], guest: ['no'] }, 'and taken away');
      await apply(from({ namespaceSelector: { matchLabels: { team: 'a' } } }));
      await reach(t, all('no'), 'no namespace has the label');
      await weft.run('label', 'ns', 'ops', 'team=a');
      await reach(t, { web: ['no'], other: ['no'], guest: ['yes'] }, 'a namespace has the label');
      await apply(from({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } }));
      await reach(t, { web: ['yes'], other: ['yes'], guest: ['no'] }, 'by the name of the namespace');
    });

    await t.test('what is allowed by port', async (t) => {
      await apply(policy('allowed', { ...forDb, ingress: [{ ports: [{ port: 8080 }] }] }));
      t.equal(await asked(clients['guest']!.inside, 5), 'yes no yes no', 'TCP alone');
      await apply(
        policy('allowed', { ...forDb, ingress: [{ ports: [{ protocol: 'UDP', port: 5000, endPort: 5999 }] }] }),
      );
      t.equal(await asked(clients['guest']!.inside, 5), 'no yes no yes', 'a range of UDP');
    });

    await t.test('egress: both ends have to allow it', async (t) => {
      await apply(policy('allowed', { ...forDb, ingress: [{}] }), policy('out', { policyTypes: ['Egress'] }, 'ops'));
      await reach(t, { web: ['yes'], guest: ['no'] }, 'nothing leaves ops');
      t.ok((await drops('policy_egress')) > 0);
      await apply(
        policy('out', { egress: [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }], policyTypes: ['Egress'] }, 'ops'),
      );
      t.equal(await asked(clients['guest']!.inside, 5), 'yes yes no no', 'IPv4 alone');
      await weft.run('delete', 'netpol', 'out', '-n', 'ops');
      await reach(t, all('yes'), 'the policy is deleted');
    });

    await t.test(
      'an open connection is cut when a policy does not allow it any more, and no other one is',
      async (t) => {
        await apply(policy('allowed', { ...forDb, ingress: [{}] }));
        const talk = async (name: string) => {
          const program = clients[name]!.inside.start(['python3', '-u', '-c', talker, db.ip4, '1']);
          await program.says('open');
          return program;
        };
        const [web, guest] = [await talk('web'), await talk('guest')];
        await apply(
          policy('allowed', { ...forDb, ingress: [{ from: [{ podSelector: {} }] }] }, 'shop', {
            'weft.dev/on-deny': 'reject',
          }),
        );
        web.write('\n');
        await web.says('answered');
        guest.write('\n');
        await until(() => /Error|closed|timeout/.test(guest.stdout), { what: 'the one from ops has ended' });
        t.notMatch(web.stdout, /Error|closed|timeout/);
      },
    );

    await t.test('everything holds after a restart, and when the daemon is killed', async (t) => {
      for (const end of ['stop', 'kill'] as const) {
        await weft[end]();
        await weft.start();
        await reach(t, { web: ['yes'], other: ['yes'], guest: ['no'] }, `after ${end}`);
      }
    });

    await t.test('what is not allowed any more after a start does not go on for a moment', async (t) => {
      const talking = clients['web']!.inside.start(['python3', '-u', '-c', talker, db.ip4, '20']);
      await talking.says('open');
      talking.write('\n');
      await talking.says('answered');
      await weft.stop();
      const known = await openEmbeddedStore({
        directory: weft.state,
        onWarning: (message) => t.fail(message),
        after: () => () => {},
      });
      const key = 'networkpolicies/shop/allowed';
      const before = (await known.get(key))!.value as object;
      await known.transact({ put: [{ key, value: { ...before, resource: policy('allowed', { ingress: [] }) } }] });
      await known.close();
      // What is sent now waits in the kernel, and is the first that the daemon gets.
      talking.write('\n');
      await weft.start();
      await until(async () => (await drops('policy_ingress')) > 0, { what: 'it is dropped' });
      t.equal(talking.stdout.split('answered').length, 2, 'it was answered once, before');
      await talking.stop();
      await apply(policy('allowed', { ...forDb, ingress: [{ from: [{ podSelector: {} }] }] }));
    });

    await t.test('the last policies deleted: everybody talks to it again', async (t) => {
      await weft.run('delete', 'netpol', 'closed', '-n', 'shop');
      await weft.run('delete', 'netpol', 'allowed', '-n', 'shop');
      await reach(t, all('yes'), 'no policy');
    });
  });
}
