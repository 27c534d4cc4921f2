/**
 *   ┌ host ─────────────────────────────────────────────────┐
 *   │ client ── weft ─┬─ one      service web: TCP 80, UDP 53
 *   │                 └─ two                                │
 *   └───────────────────────────────────────────────────────┘
 *
 * A backend leaves its service while connections go to it. The programs at both ends wait for what the other one says,
 * and are told at once that nothing will come; UDP goes on with another backend.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab } from '../support/lab.ts';
import { monotonicMs, until, type Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { attachContainer, overlay, type Container } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(300_000);

const VIP = { 4: '10.96.0.80', 6: 'fd77:6566:7460::80' } as const;
/** How long the other end may wait, measured from the moment at which the change is applied or made. */
const RESET_WITHIN_MS = 100;

/** Says a line in one piece: print() writes its end by itself, and another thread may come between. */
const say = `
def say(line): os.write(1, (line + '\\n').encode())
`;

/** Accepts connections at port 8080, answers what is sent first, and says how each ends. Answers UDP at port 5353 by its name. */
const server = `
import os, socket, sys, threading
${say}name = sys.argv[1]
def serve(c):
    try:
        while True:
            data = c.recv(64)
            if not data: say('closed'); return
            c.sendall(data)
    except OSError as e: say(type(e).__name__)
def tcp(s):
    while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()
def udp(s):
    while True: s.sendto(name.encode(), s.recvfrom(64)[1])
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for kind, port, run in ((socket.SOCK_STREAM, 8080, tcp), (socket.SOCK_DGRAM, 5353, udp)):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM: s.listen(16)
        threading.Thread(target=run, args=(s,)).start()
print('listening', flush=True)
`;

/** Opens a connection to each address, has something answered, and then waits in read. */
const reader = `
import os, socket, sys, threading
${say}def read(address):
    c = socket.create_connection((address, 80))
    c.sendall(b'?'); c.recv(64); say('connected')
    try: say('read ' + str(len(c.recv(64))))
    except OSError as e: say(type(e).__name__)
for address in sys.argv[1:]: threading.Thread(target=read, args=(address,)).start()
`;

/** Asks from one socket every 2 ms, and says who answers whenever that is another one. */
const asker = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.002); s.connect((sys.argv[1], 53))
last = None
while True:
    try: s.send(b'?'); told = s.recv(64).decode(); time.sleep(0.002)
    except OSError: continue
    if told != last: print(told, flush=True)
    last = told
`;

const service = `
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ipFamilyPolicy: PreferDualStack
  clusterIP: ${VIP[4]}
  clusterIPs: ['${VIP[4]}', '${VIP[6]}']
  ports:
    - { name: http, port: 80, targetPort: 8080 }
    - { name: names, port: 53, targetPort: 5353, protocol: UDP }
`;

async function listen({ namespace }: Container, name: string): Promise<Background> {
  const listening = namespace.start(['python3', '-u', '-c', server, name]);
  await until(() => listening.stdout.includes('listening'), { what: `${name} listens` });
  return listening;
}

/** When so many lines had come that say this. */
async function heard({ lines }: Background, text: string, times: number): Promise<number> {
  const found = await until(
    () => {
      const all = lines.filter((line) => line.text === text);
      return all.length >= times ? all : undefined;
    },
    { what: `${times} times ${text}` },
  );
  return found[times - 1]!.atMs;
}

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const weft = await Weft.up(lab, host, 'host', { datapath });
    await weft.createNetwork(overlay.create);
    const { namespace } = await attachContainer(lab, weft, 'client', 11);
    const one = await attachContainer(lab, weft, 'one', 12, ['--label', 'app=web']);
    const two = await attachContainer(lab, weft, 'two', 13, ['--label', 'app=spare']);
    const servers = [await listen(one, 'one'), await listen(two, 'two')] as const;
    const file = join(lab.directory, 'service.yaml');
    writeFileSync(file, service);
    await weft.run('apply', '-f', file);
    const connect = async (): Promise<Background> => {
      const reading = namespace.start(['python3', '-u', '-c', reader, VIP[4], VIP[6]]);
      await heard(reading, 'connected', 2);
      return reading;
    };
    const label = (endpoint: string, app: string): Promise<string> =>
      weft.run('label', 'endpoint', endpoint, `app=${app}`);
    const reset = 'ConnectionResetError';
    /** How long both ends of both connections waited for their resets, from before the change and from when it was applied. */
    const timed = async (reading: Background, backend: Background, before: number, change: () => Promise<unknown>) => {
      const asked = monotonicMs();
      await change();
      const applied = monotonicMs();
      const told = Math.max(await heard(reading, reset, 2), await heard(backend, reset, before + 2));
      return { sinceAsked: told - asked, sinceApplied: told - applied };
    };

    await t.test('a backend that loses its label: both ends are reset, over both families', async (t) => {
      const reading = await connect();
      const { sinceAsked, sinceApplied } = await timed(reading, servers[0], 0, () => label('one', 'spare'));
      t.comment(
        `resets ${sinceAsked.toFixed(0)} ms after the command began, ${sinceApplied.toFixed(0)} ms after its end`,
      );
      t.ok(sinceApplied <= RESET_WITHIN_MS);
      await label('one', 'web');
    });

    await t.test('a service that is deleted: the same', async (t) => {
      const reading = await connect();
      const { sinceAsked, sinceApplied } = await timed(reading, servers[0], 2, () => weft.run('delete', '-f', file));
      t.comment(
        `resets ${sinceAsked.toFixed(0)} ms after the command began, ${sinceApplied.toFixed(0)} ms after its end`,
      );
      t.ok(sinceApplied <= RESET_WITHIN_MS);
      await weft.run('apply', '-f', file);
    });

    await t.test('a backend that is detached: its clients are reset', async (t) => {
      const third = await attachContainer(lab, weft, 'third', 14, ['--label', 'app=web']);
      await label('one', 'spare');
      const listening = await listen(third, 'third');
      const reading = await connect();
      await weft.run('detach', 'third');
      const applied = monotonicMs();
      t.ok((await heard(reading, reset, 2)) - applied <= RESET_WITHIN_MS);
      await listening.stop('SIGKILL');
      await label('one', 'web');
    });

    await t.test('one socket that never pauses goes on with another backend', async (t) => {
      const asking = namespace.start(['python3', '-u', '-c', asker, VIP[4]]);
      await heard(asking, 'one', 1);
      await label('two', 'web');
      await label('one', 'spare');
      const applied = monotonicMs();
      const followedMs = (await heard(asking, 'two', 1)) - applied;
      t.comment(`${followedMs.toFixed(0)} ms after the command`);
      t.ok(followedMs <= RESET_WITHIN_MS);
      await asking.stop('SIGKILL');
      await label('one', 'web');
      await label('two', 'spare');
    });

    await t.test('kill -9, then takeover: who is still a backend keeps its connections', async (t) => {
      const reading = await connect();
      await weft.kill();
      await weft.start();
      await weft.takeOver();
      const lines = reading.lines.length;
      const { sinceApplied } = await timed(reading, servers[0], 4, () => label('one', 'spare'));
      t.equal(lines, 2, 'nothing was reset before its backend left');
      t.ok(sinceApplied <= RESET_WITHIN_MS);
      await label('one', 'web');
    });

    await Promise.all(servers.map((one) => one.stop('SIGKILL')));
  });
}
