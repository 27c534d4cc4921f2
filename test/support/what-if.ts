/**
 * Changes of policies, labels and namespaces, one after the other, and programs that open connections before each of them:
 *
 *   web    shop, app: web    ─┐
 *   other  shop              ─┼─ db (shop, app: db): TCP ports 9000 and 9001, IPv4 and IPv6
 *   guest  ops               ─┘
 */
import type { Namespace } from './lab.ts';
import { until, type Background } from './process.ts';
import type { Weft } from './weft.ts';

const server = `
import selectors, socket
ready = selectors.DefaultSelector()
def accept(s):
    c, _ = s.accept()
    ready.register(c, selectors.EVENT_READ, serve)
def serve(c):
    try:
        if c.recv(4096): return
    except OSError: pass
    ready.unregister(c); c.close()
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for port in (9000, 9001):
        s = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port)); s.listen(128); ready.register(s, selectors.EVENT_READ, accept)
print('listening', flush=True)
while True:
    for key, _ in ready.select(): key.data(key.fileobj)
`;

/**
 * For each line that it gets: closes what it has, opens two connections to each address and port, and says from where it has got some.
 * It closes by a reset: a FIN that is denied on this host would be repeated, and end the connection on the other one at some time.
 */
const holder = `
import select, socket, struct, sys, time
kept = []
for line in sys.stdin:
    for s in kept: s.close()
    kept, waiting = [], []
    for a in sys.argv[1:]:
        for p in (9000, 9001):
            for _ in range(2):
                s = socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET, socket.SOCK_STREAM)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                s.setblocking(False); s.connect_ex((a, p)); waiting.append(s)
    end = time.monotonic() + 1.5
    while waiting and time.monotonic() < end:
        for s in select.select([], waiting, [], 0.1)[1]:
            waiting.remove(s)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: kept.append(s)
            else: s.close()
    for s in waiting: s.close()
    names = [s.getsockname() for s in kept]
    print('open', *(f'[{n[0]}]:{n[1]}' if ':' in n[0] else f'{n[0]}:{n[1]}' for n in names), flush=True)
`;

export async function serveDb(db: Namespace): Promise<void> {
  await db.start(['python3', '-u', '-c', server]).says('listening');
}

/** Programs of the clients. @returns has them open anew all that they can; says from which sources each has got some */
export function clientsOf(clients: readonly Namespace[], addresses: readonly string[]): () => Promise<string[][]> {
  const holders = clients.map((client) => client.start(['python3', '-u', '-c', holder, ...addresses]));
  return () => Promise.all(holders.map(opened));
}

async function opened(holder: Background): Promise<string[]> {
  const at = holder.lines.length;
  holder.write('again\n');
  await until(() => holder.lines.length > at, { what: `connections: ${holder.stderr}` });
  return holder.lines[at]!.text.split(' ').slice(1);
}

export const policy = (name: string, spec: object, namespaceName = 'shop', annotations: object = {}) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace: namespaceName, annotations },
  spec: { podSelector: {}, ...spec },
});
export const namespace = (name: string, labels: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels },
});
const clusterPolicy = (name: string, spec: object) => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha2',
  kind: 'ClusterNetworkPolicy',
  metadata: { name },
  spec: { subject: { namespaces: {} }, ...spec },
});
const forDb = { podSelector: { matchLabels: { app: 'db' } } };
const forWeb = { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'] };
const fromShop = { from: [{ podSelector: {} }] };
const fromApp = (app: string) => ({ from: [{ podSelector: { matchLabels: { app } } }] });
const fromTeam = (team: string) => ({ from: [{ namespaceSelector: { matchLabels: { team } } }] });
const fromOps = [{ namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'ops' } } }];
/** An endpoint as it is, with other labels. */
const relabelled = (name: string, labels: object) => async (weft: Weft) => {
  const resource = JSON.parse(await weft.run('get', 'ep', name, '-n', 'shop', '-o', 'json')) as { metadata: object };
  return { ...resource, metadata: { ...resource.metadata, labels } };
};

/** Each is applied after those before it. */
export const changes: readonly (readonly [what: string, ...(object | ((weft: Weft) => Promise<object>))[]])[] = [
  ['what nobody selects', policy('none', { podSelector: { matchLabels: { app: 'none' } } })],
  ['a port, and a namespace', policy('db', { ...forDb, ingress: [{ ports: [{ port: 9000 }] }, fromShop] })],
  ['IPv4 alone', policy('web', { ...forWeb, egress: [{ to: [{ ipBlock: { cidr: '0.0.0.0/0' } }] }] })],
  ['all of it again', policy('web', { ...forWeb, egress: [{}] }), policy('db', { ...forDb, ingress: [{}] })],
  [
    'a block without some',
    policy('db', { ...forDb, ingress: [{ from: [{ ipBlock: { cidr: '10.44.0.0/24', except: ['10.44.0.14/32'] } }] }] }),
  ],
  ['both families again', policy('db', { ...forDb, ingress: [fromShop] })],
  ['labels of a namespace', policy('db', { ...forDb, ingress: [fromTeam('a')] }), namespace('shop', { team: 'a' })],
  ['the same again', namespace('shop', { team: 'a' })],
  ['another label', namespace('shop', { team: 'b' })],
  ['the label of another namespace', namespace('shop', { team: 'a' }), namespace('ops', { team: 'a' })],
  [
    'one that comes first',
    clusterPolicy('first', { tier: 'Admin', priority: 1, ingress: [{ action: 'Deny', from: fromOps }] }),
  ],
  [
    'it accepts a port before',
    clusterPolicy('first', {
      ...{ tier: 'Admin', priority: 1 },
      ingress: [
        { action: 'Accept', from: fromOps, protocols: [{ tcp: { destinationPort: { number: 9001 } } }] },
        { action: 'Deny', from: fromOps },
      ],
    }),
  ],
  ['by the label of an endpoint', policy('db', { ...forDb, ingress: [fromApp('web')] })],
  ['another label of that endpoint', relabelled('web', { app: 'old' })],
  ['its label again', relabelled('web', { app: 'web' })],
  ['staged', policy('db', { ...forDb, ingress: [] }, 'shop', { 'weft.dev/staged': 'true' })],
  [
    'what comes last',
    clusterPolicy('last', { tier: 'Baseline', priority: 1, ingress: [{ action: 'Deny', from: fromOps }] }),
  ],
  [
    'another protocol alone',
    policy('db', { ...forDb, ingress: [{ ports: [{ protocol: 'UDP', port: 9000 }] }, fromApp('web')] }),
  ],
  [
    'egress of all of a namespace',
    policy('none', { policyTypes: ['Egress'], egress: [{ to: [{ podSelector: forDb.podSelector }] }] }),
  ],
  [
    'nothing any more',
    policy('all', {}),
    policy('db', { ...forDb, ingress: [] }),
    clusterPolicy('first', { tier: 'Admin', priority: 1, ingress: [{ action: 'Deny', from: fromOps }] }),
  ],
];
