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
