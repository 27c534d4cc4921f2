/**
 * A backend leaves its service while connections go to it. The programs at both ends wait for what the other one says,
 * and are told at once that nothing will come; UDP goes on with another backend.
 *
 *   ┌ a ─────────────────────────────────────────────────┐   of two hosts, the backends are on b
 *   │ client ── weft ─┬─ one      service web: TCP 80, UDP 53
 *   │                 └─ two                             │
 *   └────────────────────────────────────────────────────┘
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { etcdCluster } from './cluster.ts';
import type { Lab } from './lab.ts';
import { VIP, VIP6, type MeshOptions, seesOthers } from './mesh.ts';
import { monotonicMs, until, type Background } from './process.ts';
import { attachContainer, overlay, type Container } from './topology.ts';
import { Weft } from './weft.ts';

/** How long somebody waited until told, from when the change had been applied or made. */
export interface Waited {
  readonly what: string;
  readonly ms: number;
}

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
  clusterIP: ${VIP}
  clusterIPs: ['${VIP}', '${VIP6}']
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

/** @returns how long each of them waited, which the test does not judge */
export async function serviceResets(
  t: Test,
  lab: Lab,
  { datapath, hosts }: Pick<MeshOptions, 'datapath' | 'hosts'>,
): Promise<readonly Waited[]> {
  const all: Waited[] = [];
  const waited = (t: Test, what: string, ms: number): void => {
    all.push({ what, ms });
    t.comment(`${what}: ${ms.toFixed(0)} ms after the change`);
  };
  const wefts =
    hosts === 1
      ? [await Weft.up(lab, await lab.namespace('a'), 'a', { datapath })]
      : await (await etcdCluster(lab, hosts)).up(datapath);
  if (hosts > 1) for (const each of wefts) await seesOthers(each, hosts - 1);
  const weft = wefts[0]!;
  /** The host of the backends. */
  const far = wefts.at(-1)!;
  await weft.createNetwork(overlay.create);
  const { namespace } = await attachContainer(lab, weft, 'client', 11, ['--wait']);
  const one = await attachContainer(lab, far, 'one', 12, ['--label', 'app=web', '--wait']);
  const two = await attachContainer(lab, far, 'two', 13, ['--label', 'app=spare', '--wait']);
  const servers = [await listen(one, 'one'), await listen(two, 'two')] as const;
  const file = join(lab.directory, 'service.yaml');
  writeFileSync(file, service);
  const apply = (): Promise<string> => weft.run('apply', '-f', file, '--wait=60s');
  await apply();
  const connect = async (): Promise<Background> => {
    const reading = namespace.start(['python3', '-u', '-c', reader, VIP, VIP6]);
    await heard(reading, 'connected', 2);
    return reading;
  };
  const label = (endpoint: string, app: string, ...more: readonly string[]): Promise<string> =>
    far.run('label', 'endpoint', endpoint, `app=${app}`, ...more);
  /** Returns when all hosts have it. */
  const labelled = (endpoint: string, app: string): Promise<string> => label(endpoint, app, '--wait=60s');
  const reset = 'ConnectionResetError';
  /** Both ends of both connections wait for their resets. */
  const timed = async (
    t: Test,
    reading: Background,
    backend: Background,
    before: number,
    change: () => Promise<unknown>,
  ): Promise<void> => {
    await change();
    const appliedMs = monotonicMs();
    const told = [await heard(reading, reset, 2), await heard(backend, reset, before + 2)];
    waited(t, 'the client', told[0]! - appliedMs);
    waited(t, 'the backend', told[1]! - appliedMs);
  };

  await t.test('a backend that loses its label: both ends are reset, over both families', async (t) => {
    const reading = await connect();
    await timed(t, reading, servers[0], 0, () => label('one', 'spare'));
    await labelled('one', 'web');
  });

  await t.test('a service that is deleted: the same', async (t) => {
    const reading = await connect();
    await timed(t, reading, servers[0], 2, () => weft.run('delete', '-f', file));
    await apply();
  });

  await t.test('a backend that is detached: its clients are reset', async (t) => {
    const third = await attachContainer(lab, far, 'third', 14, ['--label', 'app=web', '--wait']);
    await labelled('one', 'spare');
    const listening = await listen(third, 'third');
    const reading = await connect();
    await far.run('detach', 'third');
    const detachedMs = monotonicMs();
    waited(t, 'the client', (await heard(reading, reset, 2)) - detachedMs);
    await listening.stop('SIGKILL');
    await labelled('one', 'web');
  });

  await t.test('one socket that never pauses goes on with another backend', async (t) => {
    const asking = namespace.start(['python3', '-u', '-c', asker, VIP]);
    await heard(asking, 'one', 1);
    await labelled('two', 'web');
    await label('one', 'spare');
    const appliedMs = monotonicMs();
    waited(t, 'the socket', (await heard(asking, 'two', 1)) - appliedMs);
    await asking.stop('SIGKILL');
    await labelled('one', 'web');
    await labelled('two', 'spare');
  });

  await t.test('kill -9, then takeover: who is still a backend keeps its connections', async (t) => {
    const reading = await connect();
    for (const each of wefts) {
      await each.kill();
      await each.start();
      await each.takeOver();
    }
    const { length } = reading.lines;
    await timed(t, reading, servers[0], 4, () => label('one', 'spare'));
    t.equal(length, 2, 'nothing was reset before its backend left');
  });

  await Promise.all(servers.map((each) => each.stop('SIGKILL')));
  return all;
}
