/** What `weft doctor` says of a machine. */
import t from 'tap';
import type { CheckReport } from '../../src/model/report.ts';
import { diagnose, type DoctorEnvironment } from '../../src/observe/doctor.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

const offloadChecks = ['udp segment', 'udp gro', 'tap uso'] as const;
const everything = { udpSegment: true, udpGro: true, tapUso: true };

async function checksWith(more: Partial<DoctorEnvironment>): Promise<CheckReport[]> {
  const { checks } = await diagnose({
    underlay: undefined,
    peers: [],
    pathMtus: new Map(),
    networks: [],
    underlayInterface: async () => undefined,
    encapBytes: 50,
    probe: undefined,
    offloads: everything,
    lostUpcalls: 0,
    ...more,
  });
  return checks;
}

const only = (checks: readonly CheckReport[], name: string): CheckReport | undefined =>
  checks.find(({ check }) => check === name);

t.test('what the kernel does for superframes', async (t) => {
  const all = await checksWith({});
  for (const name of offloadChecks) t.match(only(all, name), { result: 'ok' }, name);

  const lacking = {
    'udp segment': [{ ...everything, udpSegment: false }, /sent into the tunnel a datagram at a time/, /4\.18/],
    'udp gro': [{ ...everything, udpGro: false }, /received a datagram at a time/, /5\.0/],
    'tap uso': [{ ...everything, tapUso: false }, /cut before a container gets them/, /6\.2/],
  } as const;
  for (const [name, [offloads, detail, hint]] of Object.entries(lacking)) {
    const checks = await checksWith({ offloads });
    t.match(only(checks, name), { result: 'warning', detail, hint }, `no ${name}: what weft does instead`);
    const others = checks.filter(({ check, result }) => check !== name && result === 'warning');
    t.same(
      others,
      all.filter(({ result }) => result === 'warning'),
      'and nothing else',
    );
  }

  const untried = await checksWith({ offloads: { ...everything, tapUso: 'EPERM' } });
  t.match(only(untried, 'tap uso'), { result: 'warning', detail: /EPERM/ });
});

for (const datapath of datapathKinds) {
  t.test(`weft doctor beside a ${datapath} datapath that runs`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    await host.ip('addr add 192.0.2.1/32 dev lo');
    const weft = await Weft.up(lab, host, 'host', { datapath, underlay: '192.0.2.1' });
    const { checks } = (await weft.json('doctor')) as { checks: CheckReport[] };
    for (const name of offloadChecks) t.not(only(checks, name), undefined, name);
    t.same(
      checks.filter(({ detail }) => /could not be tried/.test(detail)),
      [],
      'each could be tried',
    );
    t.same(await host.links(), [], 'and no interface is left');
    for (const name of offloadChecks) t.match(await weft.run('doctor'), name);
  });
}
