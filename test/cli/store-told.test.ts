/** What `weft status` and `weft hosts` say of a shared store, and of what other hosts can say by it. */
import t from 'tap';
import { fixture } from './fixture.ts';

const rest = { cluster: 'c', prefix: 'weft/', revision: 7, pending: [], lost: [], signs: [], held: [] };
const audit = { runs: 1, mismatches: 0 };

t.test('a copy of the state that was damaged', async (t) => {
  const { weft, sw } = await fixture(t);
  const { status } = sw;
  const copyDamage =
    '/var/lib/weft/copy is damaged at byte 812, when weft started: what was missing has come from the store';
  sw.status = () => ({ ...status(), sharedStore: { ...rest, reachable: true, copyDamage, audit } });
  t.match(await weft(['status']), { code: 0, stdout: new RegExp(`\nCopy: +${copyDamage}\n`) });
});

t.test('others cannot say what they have in force', async (t) => {
  const { weft, sw } = await fixture(t);
  const { status } = sw;
  const unknown = { state: 'unknown', why: 'the store is away' } as const;
  sw.status = () => ({
    ...status(),
    sharedStore: { ...rest, reachable: false, why: 'no answer within 2 s', audit },
    registration: { state: 'registered' },
    inForce: {
      revision: 7,
      hosts: [
        { host: 'a', state: 'in force' },
        { host: 'b', ...unknown },
        { host: 'c', ...unknown },
      ],
    },
  });
  t.match(await weft(['status']), {
    stdout: /\nIn force: +revision 7 on 1 of 3 hosts; b, c cannot say it while the store is away\n/,
  });
  const loss = { lost: 0, of: 0 };
  const peer = { underlay: '192.0.2.2', state: 'up', since: '2026-01-01T00:00:00.000Z', roundTripMs: 1 } as const;
  sw.hosts = async () => [
    { ...peer, name: 'b', lossIn: loss, lossOut: loss, pathMtu: 1500, vnis: null, inForce: unknown },
  ];
  t.match(await weft(['hosts']), {
    code: 0,
    stdout: / unknown /,
    stderr: 'note: what hosts have in force: b cannot say it while the store is away\n',
  });
});
