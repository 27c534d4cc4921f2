/**
 *   ┌ host ────────────────────────────────────────────┐
 *   │ web  (app: web)  ─┬─ weft ── db, answers over    │     fence.ts is given with --hook, others are declared
 *   │ guest            ─┘          TCP 8080 and 9000   │
 *   └──────────────────────────────────────────────────┘
 *
 * Hooks say who reaches db, and programs notice. One that loops, throws or is not TypeScript does not stop the switch. At a takeover,
 * they are loaded while the old daemon forwards, and what is in force then is what is declared then; if one cannot be loaded, the old
 * daemon goes on.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openLab, type Namespace } from '../support/lab.ts';
import { until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { overlay, overlayIps } from '../support/topology.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

t.setTimeout(600_000);

const server = `
import socket, threading
def answer(s):
    while True:
        c, _ = s.accept(); c.sendall(b'yes'); c.close()
def echo(c):
    while (data := c.recv(64)): c.sendall(data)
def echoes(s):
    while True:
        c, _ = s.accept(); threading.Thread(target=echo, args=(c,), daemon=True).start()
for port, run in ((8080, answer), (9000, echoes)):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', port)); s.listen(128)
    threading.Thread(target=run, args=(s,)).start()
print('listening', flush=True)
`;
const client = `
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])); print(s.recv(64).decode())
except ConnectionRefusedError: print('refused')
except OSError: print('no')
`;
/** Sends a byte whenever it is asked to, over one connection. */
const talker = `
import socket, sys
s = socket.create_connection((sys.argv[1], 9000)); s.settimeout(20)
print('open', flush=True)
for line in sys.stdin:
    try: s.sendall(b'.'); print('answered' if s.recv(1) else 'closed', flush=True)
    except OSError as e: print(type(e).__name__, flush=True)
`;

/** Says what TOS datagrams have. */
const tosServer = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, socket.IP_RECVTOS, 1); s.bind(('0.0.0.0', 8081))
print('listening', flush=True)
while True:
    _, parts, _, _ = s.recvmsg(2048, 64)
    for level, kind, data in parts:
        if level == 0 and kind == socket.IP_TOS: print('tos', data[0], flush=True)
`;
/** Sends datagrams, which can carry ECN. */
const sender = `
import socket, sys
def send(to, count):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, socket.IP_TOS, 1)
    for _ in range(count): s.sendto(b'.', (to, 8081))
send`;
/** Says whenever a connection is answered. */
const prober = `
import socket, sys
print('probing', flush=True)
while True:
    try: socket.create_connection((sys.argv[1], 8080), 0.2).close(); print('yes', flush=True)
    except OSError: pass
`;

/** The processes of hooks of daemons at this socket, but for those of that one. */
function hookProcesses(socket: string, but: number): number[] {
  const of = (pid: string | number, file: string): string => readFileSync(`/proc/${pid}/${file}`, 'utf8');
  return readdirSync('/proc').flatMap((pid) => {
    try {
      if (!/^\d+$/.test(pid) || !of(pid, 'cmdline').includes('hooks/program.js')) return [];
      const parent = Number(/^PPid:\s*(\d+)$/m.exec(of(pid, 'status'))?.[1]);
      return parent !== but && of(parent, 'cmdline').split('\0').includes(socket) ? [Number(pid)] : [];
    } catch {
      return []; // it has ended
    }
  });
}

/** Stops the processes of hooks of another daemon than that one, as they appear, before they have loaded anything. @returns how they go on */
async function holdHooks(socket: string, but: number, count: number): Promise<() => void> {
  const held = new Set<number>();
  const hold = (): boolean => {
    for (const pid of hookProcesses(socket, but)) {
      if (!held.has(pid)) process.kill(pid, 'SIGSTOP');
      held.add(pid);
    }
    return held.size === count;
  };
  while (!hold()) await new Promise(setImmediate);
  return () => {
    for (const pid of held) process.kill(pid, 'SIGCONT');
  };
}

const text = (name: string, body: string): string =>
  `import { allow, defineHook, deny, isIn, reject } from 'weft';\nexport default defineHook({ name: '${name}', onFlow({ protocol, source, destination }) {\n${body}\n} });\n`;

for (const datapath of datapathKinds) {
  await t.test(datapath, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    const fence = join(lab.directory, 'fence.ts');
    writeFileSync(fence, text('fence', ''));
    const weft = await Weft.up(lab, host, 'host', { datapath, arguments: ['--hook', fence] });
    await weft.createNetwork(overlay.create);
    const manifest = join(lab.directory, 'hook.json');
    const write = (name: string, body: string, onError = 'deny'): void => {
      const spec = { source: text(name, body), onError };
      writeFileSync(manifest, JSON.stringify({ apiVersion: 'weft.dev/v1', kind: 'Hook', metadata: { name }, spec }));
    };
    const apply = (name: string, body: string, onError?: string): Promise<string> => {
      write(name, body, onError);
      return weft.run('apply', '-f', manifest);
    };
    const attach = async (name: string, at: number, ...more: string[]) => {
      const inside = await lab.namespace(name);
      const [ip4] = overlayIps(at);
      await weft.attach(inside, { name, network: overlay.network, arguments: [...more, '--ip', ip4] });
      return { inside, ip4 };
    };
    const db = await attach('db', 12, '--label', 'app=db');
    const web = await attach('web', 13, '--label', 'app=web');
    const guest = await attach('guest', 14);
    await db.inside.start(['python3', '-u', '-c', server]).says('listening');
    const asks = async (from: Namespace, waitS = 20): Promise<string> =>
      (await from.run(['python3', '-c', client, db.ip4, '8080', String(waitS)])).trim();
    const drops = async (reason: string): Promise<number> => (await weft.status()).datapath.drops[reason] ?? 0;

    await t.test('one that has nothing against it', async (t) => {
      t.equal(await asks(web.inside), 'yes');
      t.match((await weft.status()).hooks, [{ name: 'fence', file: 'fence.ts', state: 'in_force' }]);
    });

    const talking = web.inside.start(['python3', '-u', '-c', talker, db.ip4]);
    await talking.says('open');

    await t.test('by labels, with its reason', async (t) => {
      await apply(
        'labels',
        `if (destination.labels.app === 'db' && source.labels.app !== 'web') return deny('only web');`,
      );
      t.equal(await asks(web.inside), 'yes');
      t.equal(await asks(guest.inside, 1), 'no');
      t.ok((await drops('hook_denied')) >= 1);
      const drop = (await weft.json('drops')).find(({ reason }) => reason === 'hook_denied')!;
      t.match(await weft.run('why', drop.id!), /hook labels denies it: only web/);
      await weft.run('label', 'ep', 'guest', 'app=web');
      t.equal(await asks(guest.inside), 'yes', 'another label');
      await weft.run('label', 'ep', 'guest', 'app-');
      t.equal(await asks(guest.inside, 1), 'no');
      await apply('labels', `if (source.endpoint === 'guest') return reject('go away');`);
      t.equal(await asks(guest.inside), 'refused');
      await weft.run('delete', 'hook', 'labels');
      t.equal(await asks(guest.inside), 'yes');
    });

    await t.test('the file is read again, and one that is wrong keeps what was there', async (t) => {
      writeFileSync(fence, text('fence', `if (source.endpoint === 'guest') return reject('by the fence');`));
      await until(async () => (await asks(guest.inside)) === 'refused', { what: 'the fence is up' });
      writeFileSync(fence, text('fence', 'const x = ;'));
      const state = () => weft.status().then(({ hooks }) => hooks[0]!);
      await until(async () => (await state()).why?.includes('Unexpected'), { what: 'it is refused' });
      t.match(await state(), { state: 'in_force', why: /^fence\.ts:3:11: Unexpected ";"/ });
      t.equal(await asks(guest.inside), 'refused');
      t.match(await weft.run('doctor'), /hook fence .*an older version is in force/);
      writeFileSync(fence, text('fence', ''));
      await until(async () => (await asks(guest.inside, 1)) === 'yes', { what: 'the fence is down' });
    });

    await t.test('what cannot be loaded is not applied', async (t) => {
      write('bad', 'const x = ;');
      const { code, stderr } = await weft.attempt('apply', '-f', manifest);
      t.equal(code, 1);
      t.match(stderr, /hook "bad": bad\.ts:3:11: Unexpected ";"/);
      t.match(await weft.run('get', 'hooks'), /No hooks/i);
    });

    await t.test('one that throws denies, or leaves it to others', async (t) => {
      await apply('throws', `if (source.endpoint === 'guest') (source as any).x.y;`);
      t.equal(await asks(guest.inside, 1), 'no');
      t.equal(await asks(web.inside), 'yes');
      t.ok((await drops('hook_failed')) >= 1);
      t.match(await weft.run('metrics'), /weft_hook_failures_total\{hook="throws"\} [1-9]/);
      await apply('throws', `if (source.endpoint === 'guest') (source as any).x.y;`, 'allow');
      t.equal(await asks(guest.inside), 'yes');
      await weft.run('delete', 'hook', 'throws');
    });

    await t.test('one that loops is ended; everything else goes on', async (t) => {
      await apply('loops', `if (source.endpoint === 'guest') for (;;);`);
      t.equal(await asks(guest.inside, 1), 'no');
      const quarantines = async () => (await weft.status()).hooks.find(({ name }) => name === 'loops')!.quarantines;
      t.ok((await quarantines()) >= 1);
      talking.write('\n');
      await talking.says('answered');
      t.match(await weft.run('status'), /loops/);
      await apply('loops', '');
      t.equal(await asks(guest.inside), 'yes');
      await weft.run('delete', 'hook', 'loops');
    });

    await t.test('marks, DSCP and rates', async (t) => {
      const limited = `if (destination.port === 9000) return;
        return allow({ mark: 7, dscp: 46, rate: { by: 'all', packetsPerSecond: 20 } });`;
      await apply('treats', limited);
      const datagrams = db.inside.start(['python3', '-u', '-c', tosServer]);
      await datagrams.says('listening');
      await web.inside.run(['python3', '-c', `${sender}(sys.argv[1], 5)`, db.ip4]);
      await datagrams.says(/^(tos 185\n){5}/m);
      const shown = (await weft.json('connections')) as { id: string; destination: string; mark?: number }[];
      const [one] = shown.filter(({ destination }) => destination.endsWith(':8081'));
      t.match(one, { mark: 7, dscp: 46, rate: { packetsPerSecond: 20 } });
      t.match(await weft.run('why', one!.id), /Set by hooks: mark 7, DSCP 46, at most 20 packets a second/);
      await web.inside.run(['python3', '-c', `${sender}(sys.argv[1], 200)`, db.ip4]);
      // Datagrams that came together are dropped as one frame.
      t.ok((await drops('hook_rate_limit')) >= 1);
      t.match(await weft.run('why', 'hook_rate_limit@web'), /a hook has set a rate/);
      await weft.run('delete', 'hook', 'treats');
      await datagrams.stop('SIGKILL');
    });

    await t.test('hooks are there after a restart, before any port is open', async (t) => {
      await apply('kept', `if (source.endpoint === 'guest') return reject('still');`);
      await weft.stop();
      await weft.start();
      t.equal(await asks(guest.inside), 'refused');
      t.equal(await asks(web.inside), 'yes');
    });

    await t.test('killed, they are loaded at the same time, and nothing is forwarded until they are', async (t) => {
      const passed = guest.inside.start(['python3', '-u', '-c', prober, db.ip4]);
      await passed.says('probing');
      const { pid } = weft;
      await weft.kill();
      const started = weft.start();
      const goOn = await holdHooks(weft.socket, pid, 2);
      t.equal(await asks(web.inside, 1), 'no', 'it does not forward');
      goOn();
      await started;
      t.equal(await asks(guest.inside), 'refused');
      t.equal(await asks(web.inside), 'yes');
      await passed.stop('SIGKILL');
      t.notMatch(passed.stdout, 'yes');
    });

    await t.test(
      'taken over, the old daemon forwards until they are loaded, and what has changed is loaded anew',
      async (t) => {
        await apply('kept', `if (source.endpoint === 'guest') return deny('before');`);
        const { pid } = weft;
        const taken = weft.takeOver();
        const goOn = await holdHooks(weft.socket, pid, 2);
        t.equal(await asks(web.inside), 'yes');
        t.equal((await weft.status()).pid, pid, 'the old one');
        const passed = guest.inside.start(['python3', '-u', '-c', prober, db.ip4]);
        await passed.says('probing');
        await apply('kept', `if (source.endpoint === 'guest') return reject('after');`);
        writeFileSync(fence, text('fence', `if (source.endpoint === 'web') return reject('by the fence');`));
        await until(async () => (await asks(web.inside)) === 'refused', { what: 'the old one has read the file' });
        goOn();
        await taken;
        t.not(weft.pid, pid);
        t.equal(await asks(web.inside), 'refused', 'by the file as it is now');
        t.equal(await asks(guest.inside), 'refused', 'as it is declared now');
        t.match((await weft.status()).hooks, [{ state: 'in_force' }, { state: 'in_force' }]);
        await until(() => Promise.resolve(hookProcesses(weft.socket, 0).length === 2), {
          what: 'no process is left over',
        });
        await passed.stop('SIGKILL');
        t.notMatch(passed.stdout, 'yes');
        talking.write('\n');
        await talking.says('answered');
      },
    );

    await t.test(
      'taken over with a hook that cannot be loaded, the old daemon goes on, and so does what it has',
      async (t) => {
        const { pid } = weft;
        writeFileSync(fence, 'const x = ;');
        const { code, stderr } = await weft.attemptTakeOver();
        t.equal(code, 1);
        t.match(stderr, /nothing is taken over from the running daemon.*fence\.ts:1:11: Unexpected ";"/);
        t.equal((await weft.status()).pid, pid);
        t.equal(await asks(web.inside), 'refused', 'by the version of before');
        writeFileSync(fence, text('fence', ''));
        await weft.takeOver();
        t.equal(await asks(web.inside), 'yes');
      },
    );

    await t.test('one that the running daemon cannot load either keeps nobody from taking over', async (t) => {
      writeFileSync(fence, 'const x = ;');
      await weft.stop();
      await weft.start();
      t.match((await weft.status()).hooks, [{ file: 'fence.ts', state: 'failed' }, { state: 'in_force' }]);
      await weft.takeOver();
      writeFileSync(fence, text('fence', ''));
      await until(async () => (await asks(web.inside, 1)) === 'yes', { what: 'it is read again' });
    });
  });
}
