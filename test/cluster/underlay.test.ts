/**
 * The host's own end of the overlay: waited for, opened, lost and opened again; here on the loopback, without a
 * datapath.
 */
import t from 'tap';
import { Underlay, type UnderlayOptions, type UnderlayReport } from '../../src/cluster/underlay.ts';
import { WeftError } from '../../src/error.ts';
import { formatIp, type PortNo } from '../../src/flow/types.ts';

/** An address that nobody has (RFC 5737). */
const NOWHERE = '192.0.2.77';

function underlayAt(address: string | undefined, peer?: string) {
  const calls: string[] = [];
  const told: UnderlayReport[] = [];
  const forwarding = {
    refusal: undefined as WeftError | undefined,
    keptFor: undefined as ReturnType<UnderlayOptions['keptFor']>,
    asked: 0,
  };
  const underlay = new Underlay({
    forwarding: {
      openUnderlay: (_, spec) => {
        if (forwarding.refusal) throw forwarding.refusal;
        if (spec.kind === 'vxlan') calls.push(`open ${formatIp(spec.local)}`);
      },
      closeUnderlay: () => calls.push('close'),
    },
    portNo: 1 as PortNo,
    l4Port: 4789,
    address,
    peer,
    keptFor: () => {
      forwarding.asked++;
      return forwarding.keptFor;
    },
    onChange: (report) => told.push(report),
  });
  return { underlay, calls, told, forwarding };
}

t.test('none is wanted', async (t) => {
  const { underlay, calls, told } = underlayAt(undefined);
  await underlay.keep();
  t.equal(underlay.report(), undefined);
  t.equal(await underlay.defaultMtu(), 1500);
  t.same([calls, told], [[], []]);
});

t.test('what keeps it from opening is told once, and tried again', async (t) => {
  const { underlay, calls, told, forwarding } = underlayAt('127.0.0.1');
  forwarding.refusal = new WeftError('conflict', 'the port is in use');
  await underlay.keep();
  await Promise.all([underlay.keep(), underlay.keep()]);
  t.same(told, [{ open: false, why: 'the port is in use' }]);
  forwarding.refusal = undefined;
  await underlay.keep();
  await underlay.keep();
  t.same(calls, ['open 127.0.0.1']);
  t.same(underlay.report(), { open: true });
  underlay.lost('reading from it failed (EIO)');
  t.match(underlay.report(), { open: false, why: /opened again: reading from it failed/ });
  await underlay.keep();
  t.same(calls, ['open 127.0.0.1', 'close', 'open 127.0.0.1']);
  t.equal(told.length, 4);
  underlay.close();
  underlay.lost('closed');
  await underlay.keep();
  t.equal(calls.at(-1), 'close', 'nothing is opened while the switch stops');
});

t.test('who has the port is asked when it is refused, and then rarely', async (t) => {
  const { underlay, told, forwarding } = underlayAt('127.0.0.1');
  forwarding.refusal = new WeftError('conflict', 'the port is in use');
  for (let second = 0; second < 10; second++) await underlay.keep();
  t.equal(forwarding.asked, 1);
  forwarding.keptFor = { state: '/var/lib/other', isRunning: true };
  for (let second = 0; second < 20; second++) await underlay.keep();
  t.equal(forwarding.asked, 2);
  t.equal(told.length, 2);
  t.match(underlay.report(), {
    why: /^UDP port 4789 is in use by weft with .* \/var\/lib\/other, which runs: stop that/,
  });
  forwarding.keptFor = { state: '/var/lib/other', isRunning: false };
  forwarding.refusal = new WeftError('conflict', 'the port is in use otherwise');
  await underlay.keep();
  t.match(underlay.report(), { why: /^UDP port 4789 is kept open .* \/var\/lib\/other, which was killed: wait/ });
  forwarding.refusal = new WeftError('system', 'not permitted');
  await underlay.keep();
  t.match(underlay.report(), { why: 'not permitted' });
  t.equal(forwarding.asked, 3);
});

t.test('an address that the host does not have', async (t) => {
  const { underlay, calls } = underlayAt(NOWHERE);
  await underlay.keep();
  t.match(underlay.report(), { open: false, why: `${NOWHERE} is not an address of this host` });
  t.equal(underlay.addressText, NOWHERE);
  await t.rejects(underlay.defaultMtu(), { code: 'conflict', message: /give --mtu/ });
  t.same(calls, []);
});

t.test('the address that reaches the first peer', async (t) => {
  const { underlay, calls } = underlayAt(undefined, '127.0.0.2');
  await underlay.keep();
  t.same([underlay.addressText, calls], ['127.0.0.1', ['open 127.0.0.1']]);
  t.equal(underlay.encapBytes, 50);
  t.equal(underlayAt(undefined, '::1').underlay.encapBytes, 70);
});
