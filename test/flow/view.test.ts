/** How much of a key a decision uses if it only asks whether a field is one of some values. */
import t from 'tap';
import { emptyKey, formatMegaflow, maskOf, megaflowId, writeNumber } from '../../src/flow/key.ts';
import { fields, type FieldName } from '../../src/flow/fields.ts';
import { parseIp, parseMac } from '../../src/flow/types.ts';
import { FlowView } from '../../src/flow/view.ts';

function keyWith(values: Partial<Record<FieldName, Uint8Array | number>>): Uint8Array {
  const key = emptyKey();
  for (const [name, value] of Object.entries(values) as [FieldName, Uint8Array | number][]) {
    if (typeof value === 'number') writeNumber(key, fields[name], value);
    else key.set(value, fields[name].offset);
  }
  return key;
}

const own = ['10.0.0.2', '10.0.7.3', 'fd00::2'].map(parseIp);

t.test('all of a value that is there, of another the bytes that tell it from all', (t) => {
  const cases = [
    ['10.0.7.3', true, 'ip_src=10.0.7.3'],
    ['10.0.7.9', false, 'ip_src=10.0.7.9'],
    ['10.0.9.3', false, 'ip_src=10.0.9.0/24'],
    ['10.1.7.3', false, 'ip_src=10.1.0.0/16'],
    ['192.0.2.1', false, 'ip_src=192.0.0.0/8'],
    ['fd00::1:2', false, 'ip_src=fd00::1:0/112'],
    ['2001:db8::1', false, 'ip_src=2000::/8'],
  ] as const;
  for (const [ip, isOne, megaflow] of cases) {
    const key = keyWith({ ip_src: parseIp(ip) });
    const view = new FlowView(key);
    t.equal(view.isOneOf('ip_src', own), isOne, ip);
    t.equal(formatMegaflow(key, view.mask), megaflow);
  }
  t.end();
});

t.test('fields of every kind', (t) => {
  const key = keyWith({ eth_src: parseMac('02:5a:00:00:00:01'), tun_vni: 0x1234, in_port: 3 });
  const view = new FlowView(key);
  t.equal(view.isOneOf('eth_src', [parseMac('02:5b:00:00:00:01')]), false);
  t.equal(view.isOneOf('tun_vni', [Uint8Array.of(0, 0, 0x11, 0)]), false);
  t.equal(view.number('in_port'), 3);
  t.equal(formatMegaflow(key, view.mask), 'in_port=3,tun_vni=0x000012*,eth_src=02:5a:*');
  t.equal(view.used('eth_src'), '02:5a:*');
  t.equal(view.used('tun_vni'), '0x000012*');
  t.equal(view.used('in_port'), 3);
  t.same(view.takeRead(), ['eth_src', 'tun_vni', 'in_port']);
  t.end();
});

t.test('nothing is used to tell that a value is not among none', (t) => {
  const key = keyWith({ ip_src: own[0]! });
  const view = new FlowView(key);
  t.equal(view.isOneOf('ip_src', []), false);
  t.equal(view.mask, maskOf(0));
  t.end();
});

t.test('what was used stays used, and equal masks are one object', (t) => {
  const key = keyWith({ ip_src: parseIp('10.1.0.1'), ip_dst: parseIp('192.0.2.1') });
  const [one, other] = [new FlowView(key), new FlowView(key)];
  one.isOneOf('ip_dst', [own[0]!]);
  one.isOneOf('ip_src', own);
  t.same(other.first('ip_src', 14), parseIp('10.1.0.1').slice(0, 14));
  other.isOneOf('ip_src', [own[2]!]);
  other.isOneOf('ip_dst', [own[0]!]);
  t.equal(one.mask, other.mask, 'whatever the order, and the longer of two');
  other.bytes('ip_src');
  t.equal(formatMegaflow(key, other.mask), 'ip_src=10.1.0.1,ip_dst=192.0.0.0/8');
  t.not(megaflowId(key, one.mask), megaflowId(key, other.mask));
  one.first('ip_src', 16);
  t.equal(one.mask, other.mask, 'all of its bytes are the whole field');
  t.end();
});
