/** What weft says about an etcd that it cannot use: addresses, users, certificates, files, and one without space. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { WeftError } from '../../src/error.ts';
import { isUnanswered } from '../../src/store/store.ts';
import { certificates } from '../support/certificates.ts';
import { openStoreOf, type EtcdStoreSettings } from '../support/etcd-store.ts';
import { startEtcd, type Etcd } from '../support/etcd.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { until } from '../support/process.ts';

t.setTimeout(300_000);

function write(lab: Lab, name: string, text: string): string {
  const file = join(lab.directory, name);
  writeFileSync(file, text);
  return file;
}

/** What a list says. The health says why in the same words. */
async function answerOf(etcd: Etcd, settings: EtcdStoreSettings): Promise<string> {
  const store = openStoreOf(etcd, settings);
  try {
    await store.list('');
    return store.health().isReachable ? 'ok' : 'ok, but not reachable';
  } catch (error) {
    const { code, message } = error as WeftError;
    const { isReachable, why } = store.health();
    const isSame = code === 'unreachable' && !isReachable && `etcd cannot be reached: ${why}` === message;
    return isSame ? message : `${code}: ${message}, but ${isReachable}: ${why}`;
  } finally {
    await store.close();
  }
}

const away = (member: string, why: string): string => `etcd cannot be reached: ${member}: ${why}`;

await t.test('users and certificates', async (t) => {
  const lab = openLab(t);
  const etcd = await startEtcd(lab, { tls: true, users: { root: 'r', weft: 'w' } });
  const { ca, client, issue } = etcd.certificates!;
  const user = { name: 'weft', passwordFile: write(lab, 'password', 'w\n') };
  const tls = { ca, certificate: client.certificate, key: client.key };
  const member = etcd.members[0]!.clientAddress;
  const refuses = async (what: string, settings: EtcdStoreSettings, why: string): Promise<void> => {
    t.equal(await answerOf(etcd, { user, tls, ...settings }), why === 'ok' ? why : away(member, why), what);
  };
  await refuses('nothing of the right ones', {}, 'ok');
  const wrong = { ...user, passwordFile: write(lab, 'wrong', 'x\n') };
  await refuses(
    'a wrong password',
    { user: wrong },
    'it does not accept user "weft" with the password in passwordFile',
  );
  const forbidden = (below: string): string =>
    `user "weft" may not read and write below "${below}": \`etcdctl role grant-permission ROLE --prefix=true readwrite ${below}\`, with a role of that user`;
  await refuses('keys of others', { prefix: 'b/' }, forbidden('b/'));
  await etcd.ctl(['role', 'grant-permission', 'weft', '--prefix=true', 'read', 'c/']);
  const reading = openStoreOf(etcd, { user, prefix: 'c/' });
  t.teardown(() => reading.close());
  await reading.list('');
  await t.rejects(reading.transact({ put: [{ key: 'k', value: 1 }] }), {
    code: 'unreachable',
    message: `etcd at ${member}: ${forbidden('c/')}`,
  });

  mkdirSync(join(lab.directory, 'other'));
  const other = certificates(join(lab.directory, 'other'), []);
  const authority = 'its certificate is not of the authority in tls.ca';
  await refuses('a server of another authority', { tls: { ...tls, ca: other.ca } }, authority);
  const unknown =
    'its certificate is of an authority that this system does not know: set tls.ca to the file of that authority';
  await refuses('no authority of the system', { tls: { ...tls, ca: undefined } }, unknown);
  const required = 'it requires a certificate of its clients: set tls.certificate and tls.key';
  await refuses('no certificate', { tls: { ca } }, required);
  await refuses('one of another authority', { tls: { ca, ...other.client } }, 'it does not accept tls.certificate');
  await refuses('no TLS', { tls: undefined }, 'it ends the connection at once: it may expect TLS (tls)');
  const old = issue('old', { days: -1 });
  const expired = new RegExp(`: store\\.tls\\.certificate: ${old.certificate} has expired on .* GMT$`);
  t.match(await answerOf(etcd, { user, tls: { ca, ...old } }), expired, 'an expired one');
});

await t.test('a user that etcd knows by the certificate', async (t) => {
  const etcd = await startEtcd(openLab(t), { tls: true, users: { root: 'r', client: 'c' } });
  t.equal(await answerOf(etcd, {}), 'ok');
  const forbidden =
    'the user of tls.certificate may not read and write below "b/": `etcdctl role grant-permission ROLE --prefix=true readwrite b/`, with a role of that user';
  t.equal(await answerOf(etcd, { prefix: 'b/' }), away(etcd.members[0]!.clientAddress, forbidden));
});

await t.test('certificates of a server', async (t) => {
  const lab = openLab(t);
  mkdirSync(join(lab.directory, 'other'));
  const { ca, client, issue } = certificates(join(lab.directory, 'other'), []);
  const tls = { ca, ...client };
  const elsewhere = issue('elsewhere', { addresses: ['192.0.2.1'] });
  const of = (pair: typeof elsewhere) => ['--cert-file', pair.certificate, '--key-file', pair.key];
  const options = [...of(elsewhere), '--trusted-ca-file', ca];
  const etcd = await startEtcd(lab, { tls: true, options });
  const member = etcd.members[0]!.clientAddress;
  t.equal(await answerOf(etcd, { tls }), away(member, 'its certificate is not for this address'));

  const addresses = [etcd.members[0]!.address];
  const old = issue('old', { addresses, days: -1 });
  // It reads them for each connection.
  writeFileSync(elsewhere.certificate, readFileSync(old.certificate));
  writeFileSync(elsewhere.key, readFileSync(old.key));
  t.equal(await answerOf(etcd, { tls }), away(member, 'its certificate has expired'));

  const renewed = issue('renewed', { addresses });
  const store = openStoreOf(etcd, { tls });
  t.teardown(() => store.close());
  await until(() => !store.health().isReachable && store.health().why?.includes('expired'), { what: 'a refusal' });
  writeFileSync(elsewhere.certificate, readFileSync(renewed.certificate));
  writeFileSync(elsewhere.key, readFileSync(renewed.key));
  await until(() => store.health().isReachable, { what: 'the renewed certificate to be noticed' });
});

await t.test('addresses, and TLS where there is none', async (t) => {
  const lab = openLab(t);
  const etcd = await startEtcd(lab);
  mkdirSync(join(lab.directory, 'other'));
  const { ca } = certificates(join(lab.directory, 'other'), []);
  const member = etcd.members[0]!.clientAddress;
  const broken = 'it ends the connection, or does not answer with TLS: if it has none, leave tls out';
  t.equal(await answerOf(etcd, { tls: { ca } }), away(member, broken));
  const ways: readonly [string, (socket: Socket) => void][] = [
    ['in plain text', (socket) => socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))],
    ['by a reset', (socket) => socket.once('data', () => socket.resetAndDestroy())],
    ['by an end', (socket) => socket.once('data', () => socket.end())],
  ];
  for (const [way, answer] of ways) {
    const server = createServer((socket) => answer(socket.on('error', () => {})));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const somebody = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    t.equal(await answerOf(etcd, { endpoints: [somebody], tls: { ca } }), away(somebody, broken), way);
    server.close();
  }
  const nobody = `${etcd.members[0]!.address}:9`;
  t.equal(await answerOf(etcd, { endpoints: [nobody] }), away(nobody, 'nothing listens there (connection refused)'));
  t.match(
    await answerOf(etcd, { endpoints: [nobody, `${etcd.members[0]!.address}:10`] }),
    /^etcd cannot be reached: \S+:(9|10), \S+:(9|10): nothing listens there \(connection refused\)$/,
    'what is said of both is said once',
  );
  const name = 'nothing.invalid:2379';
  t.equal(await answerOf(etcd, { endpoints: [name] }), away(name, 'its name cannot be resolved'));
  t.equal(await answerOf(etcd, { endpoints: [nobody, member] }), 'ok', 'one of two is enough');
  const user = { name: 'weft', passwordFile: write(lab, 'password', 'w\n') };
  t.equal(await answerOf(etcd, { user }), 'ok', 'it asks for no user yet');
});

await t.test('files that cannot be used are told before anything else', async (t) => {
  const lab = openLab(t);
  mkdirSync(join(lab.directory, 'etcd'));
  const { ca, client, server } = certificates(join(lab.directory, 'etcd'), []);
  const etcd = { members: [{ clientAddress: '127.0.0.1:9' }] } as unknown as Etcd;
  const refuses = (settings: EtcdStoreSettings, message: string | RegExp): void => {
    t.throws(() => openStoreOf(etcd, settings), { code: 'invalid', message });
  };
  const missing = join(lab.directory, 'missing');
  const unreadable = `${missing} cannot be read: ENOENT: no such file or directory, open '${missing}'`;
  refuses({ tls: { ca: missing } }, `store.tls.ca: ${unreadable}`);
  refuses({ user: { name: 'weft', passwordFile: missing } }, `store.passwordFile: ${unreadable}`);
  const empty = write(lab, 'empty', '\n');
  const none = `store.passwordFile: ${empty} has no password in its first line`;
  refuses({ user: { name: 'weft', passwordFile: empty } }, none);
  refuses({ tls: { ca: empty } }, new RegExp(`^store\\.tls\\.ca: ${empty} does not hold a certificate in PEM: `));
  refuses(
    { tls: { ...client, key: ca } },
    new RegExp(`^store\\.tls\\.key: ${ca} does not hold a private key in PEM: `),
  );
  const mixed = `store.tls.key: ${server.key} is not the key of the certificate in ${client.certificate}`;
  refuses({ tls: { ...client, key: server.key } }, mixed);
});

await t.test('an etcd without space, and a value that is too large', async (t) => {
  const etcd = await startEtcd(openLab(t), { options: ['--quota-backend-bytes', String(4 << 20)] });
  const store = openStoreOf(etcd);
  t.teardown(() => store.close());
  const put = (lengthBytes: number): Promise<number> =>
    store.transact({ put: [{ key: 'k', value: 'x'.repeat(lengthBytes) }] });
  await t.rejects(put(1_800_000), { code: 'exhausted', message: /request is too large/ });
  const full = await until(
    () =>
      put(1 << 20).then(
        () => undefined,
        (error: unknown) => error as WeftError,
      ),
    { what: 'no space' },
  );
  t.match(full, { code: 'unreachable', message: /database space exceeded: compact and defragment it, then / });
  t.notOk(isUnanswered(full));
  t.ok(await store.get('k'), 'it still reads');
});

await t.test('members of two clusters', async (t) => {
  const lab = openLab(t);
  const [etcd, other] = [await startEtcd(lab), await startEtcd(lab)];
  const endpoints = [etcd, other].map(({ members }) => members[0]!.clientAddress);
  const warnings: string[] = [];
  // It comes to the first one.
  const store = openStoreOf(etcd, { endpoints, random: () => 0, onWarning: (message) => warnings.push(message) });
  try {
    await store.list('');
    await until(() => warnings.length > 0, { what: 'a warning' });
  } finally {
    await store.close();
  }
  const [one, two] = endpoints;
  t.equal(warnings.length, 1);
  t.match(
    warnings[0]?.replaceAll(/\([0-9a-f]+\)/g, '(ID)'),
    `etcd at ${one}, ${two}: ${two} belongs to another cluster (ID) than ${one} (ID): name the members of one cluster only`,
  );
});
