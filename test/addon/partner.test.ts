/** Partners: programs that run beside this one and answer it. One that is confined computes and answers, and does nothing else. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { endPartner, PARTNER_SOCKET, startPartner, type Partner } from '../../src/addon/partner.ts';
import { packageRoot } from '../../src/package.ts';
import { attempt, until } from '../support/process.ts';

t.setTimeout(120_000);

const ADDON = JSON.stringify(join(packageRoot, 'build/Release/weft.node'));
/** How long a read waits, and how many there are at most. */
const WAIT_MS = 100;
const READS = 600;

const started = (code: string, input = ''): Partner => startPartner([process.execPath, '-e', code], input, WAIT_MS);

function answerOf({ socket }: Partner): string | undefined {
  const message = Buffer.alloc(65_536);
  for (let n = 0; n < READS; n++) {
    try {
      const length = readSync(socket, message, 0, message.length, null);
      return length === 0 ? undefined : message.toString('utf8', 0, length);
    } catch (error) {
      if (!/^(?:EAGAIN|EINTR)$/.test((error as NodeJS.ErrnoException).code!)) throw error;
    }
  }
  throw new Error('it says nothing');
}

/** Not there, or ended and not waited for. */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

t.test('a partner has its input, a socket and nothing else, and is gone when it is ended', async (t) => {
  const partner = started(
    `const fs = require('fs');
     const given = fs.readFileSync(0, 'utf8');
     const open = fs.readdirSync('/proc/self/fd').filter((fd) => { try { return /^(?:socket|pipe|\\/(?!dev\\/null|memfd))/.test(fs.readlinkSync('/proc/self/fd/' + fd)); } catch { return false; } });
     const sockets = open.map((fd) => fs.readlinkSync('/proc/self/fd/' + fd)).filter((to) => to.startsWith('socket:')).length;
     fs.writeSync(${PARTNER_SOCKET}, JSON.stringify({ given, sockets, environment: process.env }));
     const message = Buffer.alloc(100);
     for (;;) fs.writeSync(${PARTNER_SOCKET}, 'so you say ' + message.toString('utf8', 0, fs.readSync(${PARTNER_SOCKET}, message)));`,
    'what it is given',
  );
  t.same(JSON.parse(answerOf(partner)!), {
    ...{ given: 'what it is given', sockets: 1, environment: { LC_ALL: 'C' } },
  });
  for (const said of ['one', 'two']) {
    writeSync(partner.socket, said);
    t.equal(answerOf(partner), `so you say ${said}`);
  }
  endPartner(partner);
  await until(() => Promise.resolve(isGone(partner.pid)), { what: 'it is gone' });
});

t.test('a confined one computes and answers, and does nothing else', (t) => {
  const partner = started(`
    const fs = require('fs'), children = require('child_process');
    const attempt = (run) => { try { run(); return 'done'; } catch (error) { return error.code ?? String(error); } };
    const before = attempt(() => fs.readFileSync('/proc/self/status'));
    const confined = require(${ADDON}).confine(process.ppid);
    const attempts = {
      before,
      confined,
      read: attempt(() => fs.readFileSync('/proc/self/status')),
      memory: attempt(() => fs.openSync('/proc/self/mem', 'r+')),
      write: attempt(() => fs.writeFileSync('/tmp/weft-partner', 'x')),
      list: attempt(() => fs.readdirSync('/')),
      run: children.spawnSync('/bin/true').error?.code,
      kill: attempt(() => process.kill(process.ppid, 0)),
      fault: attempt(() => process.setuid(0)),
    };
    let kept = [];
    for (let n = 0; n < 3e6; n++) kept = n % 1000 === 0 ? [] : [...kept.slice(0, 3), { n }];
    const pattern = new RegExp('^(a|b)+$').test('ab'.repeat(1000));
    fs.writeSync(${PARTNER_SOCKET}, JSON.stringify({ ...attempts, kept: kept.length, pattern }));
    fs.readSync(${PARTNER_SOCKET}, Buffer.alloc(1));`);
  t.same(JSON.parse(answerOf(partner)!), {
    ...{ before: 'done', confined: 0, read: 'EPERM', memory: 'EPERM', write: 'EPERM', list: 'EPERM', run: 'EPERM' },
    ...{ kill: 'EPERM', fault: 'EPERM', kept: 4, pattern: true },
  });
  endPartner(partner);
  t.end();
});

t.test('a confined one ends with the process that has started it, whatever it does', async (t) => {
  const confined = `require(${ADDON}).confine(process.ppid); require('fs').writeSync(${PARTNER_SOCKET}, 'at work'); for (;;);`;
  const middle = spawn(
    process.execPath,
    [
      '-e',
      `const fs = require('fs');
       const [pid, socket] = require(${ADDON}).startPartner([process.execPath, '-e', ${JSON.stringify(confined)}], '', 60_000);
       fs.readSync(socket, Buffer.alloc(100));
       fs.writeSync(1, String(pid));
       setInterval(() => {}, 1000);`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.teardown(() => middle.kill('SIGKILL'));
  const [said] = (await once(middle.stdout, 'data')) as [Buffer];
  const pid = Number(String(said));
  t.notOk(isGone(pid));
  middle.kill('SIGKILL');
  await until(() => Promise.resolve(isGone(pid)), { what: 'it is gone' });
});

t.test('a partner gets nothing of what the daemon was started with', async (t) => {
  const list = `const fs = require('fs');
    const open = fs.readdirSync('/proc/self/fd').map((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd); } catch { return ''; } });
    fs.writeSync(${PARTNER_SOCKET}, String(open.includes('/dev/full')));`;
  const daemon = `const fs = require('fs'), answer = Buffer.alloc(100);
    const [, socket] = require(${ADDON}).startPartner([process.execPath, '-e', ${JSON.stringify(list)}], '', 60_000);
    fs.writeSync(1, answer.toString('utf8', 0, fs.readSync(socket, answer)));`;
  const { code, stdout } = await attempt(['sh', '-c', 'exec 9>/dev/full; exec "$0" -e "$1"', process.execPath, daemon]);
  t.same({ code, stdout }, { code: 0, stdout: 'false' });
  // Node.js marks those that follow each other.
  const far = await attempt(['bash', '-c', 'exec 200>/dev/full; exec "$0" -e "$1"', process.execPath, daemon]);
  t.equal(far.stdout, 'false');
});

t.test('one that cannot be started', (t) => {
  t.throws(() => startPartner(['/nowhere/node'], '', WAIT_MS), { code: 'system', message: /ENOENT/ });
  t.end();
});
