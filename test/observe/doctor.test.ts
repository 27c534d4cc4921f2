/** What `weft doctor` says of a machine. */
import t from 'tap';
import type { OutsideState } from '../../src/link/outside-state.ts';
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
    outside: undefined,
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

t.test('the outside, where a network has one', async (t) => {
  const about = async (more: Partial<OutsideState>): Promise<CheckReport[]> => {
    const healthy = { hasRules: true, forwarding: { ip4: true, ip6: true }, droppingChains: [] };
    const checks = await checksWith({ outside: async () => ({ ...healthy, ...more }) });
    return checks.filter(({ check }) => check.startsWith('outside'));
  };
  t.same(
    (await about({})).map(({ check, result }) => `${check} ${result}`),
    ['outside rules ok', 'outside forwarding ok'],
  );
  t.match(await about({ hasRules: false, nftFailure: '`nft` is not installed' }), [
    { result: 'failed', detail: '`nft` is not installed' },
  ]);
  t.match(await about({ hasRules: false }), [{ check: 'outside rules', result: 'failed', hint: /log/ }]);
  t.match((await about({ forwarding: { ip4: true, ip6: false } }))[1], {
    result: 'failed',
    detail: /^net\.ipv6\.conf\.all\.forwarding switched off/,
    hint: 'sysctl -w net.ipv6.conf.all.forwarding=1',
  });
  t.match((await about({ forwarding: { ip4: true } }))[1], { result: 'ok', detail: /of IPv4 alone/ });
  t.match((await about({ droppingChains: ['ip filter FORWARD'] }))[2], {
    check: 'outside firewall',
    result: 'warning',
    detail: /^ip filter FORWARD: drops/,
    hint: /weft0/,
  });
  t.match((await about({ clash: 'address 169.254.77.1/16 of eth1 …' }))[2], {
    check: 'outside link',
    result: 'failed',
  });
  t.same(
    (await checksWith({})).filter(({ check }) => check.startsWith('outside')),
    [],
    'and nothing where none has',
  );
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
