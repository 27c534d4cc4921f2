/** What `--wait` says while it waits. */
import t from 'tap';
import { fixture } from './fixture.ts';

t.setTimeout(600_000);

t.test('while the store is away, it says so', async (t) => {
  const { weft, sw } = await fixture(t);
  const { wait, status } = sw;
  const cannot = { reachable: false, why: 'no answer within 2 s', since: '2026-01-01T00:00:00.000Z' };
  const rest = { cluster: 'c', prefix: 'weft/', revision: 7, pending: [], lost: [], signs: [], held: [] };
  const isAsked = new Promise<void>((resolve) => {
    sw.status = () => {
      resolve();
      return { ...status(), sharedStore: { ...rest, ...cannot, audit: { runs: 1, mismatches: 0 } } };
    };
  });
  sw.wait = (timeoutMs) => isAsked.then(() => wait(timeoutMs));
  t.match(await weft(['network', 'create', 'red', '--mtu', '1400', '--wait']), {
    code: 0,
    stdout: /\nin force on a\n$/,
    stderr: 'weft: in force here; waiting for the store, which cannot be reached: no answer within 2 s\n',
  });
});

t.test('what was given up when the store was back is in force nowhere', async (t) => {
  const { weft, sw } = await fixture(t);
  const { attach, status } = sw;
  const store = { reachable: true, cluster: 'c', prefix: 'weft/', revision: 7, pending: [], signs: [], held: [] };
  let lost: string[] = [];
  sw.status = () => ({ ...status(), sharedStore: { ...store, lost, audit: { runs: 1, mismatches: 0 } } });
  const pending = 'the store does not have it yet: other hosts do not know of it';
  sw.attach = async (options) => ({ ...(await attach(options)), name: 'db', pending });
  const command = ['attach', 'db', '--network', 'blue', '--pid', '1'];
  t.match(await weft(command), { code: 0, stderr: `note: endpoint "db": ${pending}\n` });
  t.match(await weft([...command, '--wait']), { code: 0, stdout: /\nin force on a\n$/, stderr: '' });
  const why =
    'endpoint "db" was taken over by host "b" while the store was away: what this host made of it is given up';
  lost = ['endpoint "other" was deleted by another host while the store was away', why];
  const { code, stdout, stderr } = await weft([...command, '--wait']);
  t.match({ code, stderr }, { code: 1, stderr: `weft: ${why}\n` });
  t.notMatch(stdout, /in force on/);
  sw.delete = async ({ kind }, { name }) => ({ kind, name, action: 'deleted', dryRun: false, pending });
  const deletion = await weft(['delete', 'endpoint', 'web', 'db', '--wait']);
  t.match({ code: deletion.code, stderr: deletion.stderr }, { code: 1, stderr: `weft: ${why}\n` });
  t.notMatch(deletion.stdout, /in force on/);
});
