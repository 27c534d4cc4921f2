/** Texts are rendered when they are read, and compared without rendering. */
import t from 'tap';
import { parseIp, parseMac } from '../../src/flow/types.ts';
import { renderText, sameText, text, type Text, type TextValue } from '../../src/pipeline/text.ts';

const mac = (): Uint8Array => parseMac('02:00:00:00:00:01');

t.test('values are written by what they are', async (t) => {
  t.equal(renderText(text`nothing to fill in`), 'nothing to fill in');
  t.equal(renderText(text`${mac()} is at port ${3}`), '02:00:00:00:00:01 is at port 3');
  t.equal(renderText(text`peers: ${['192.0.2.1', 'fd00::1'].map(parseIp)}`), 'peers: 192.0.2.1, fd00::1');
  t.equal(renderText(text`peers: ${[]}`), 'peers: none');
  t.equal(renderText(text`${text`from ${'web'}`}; trusted`), 'from web; trusted');
});

t.test('texts are the same exactly when they come from one place with equal values', async (t) => {
  const at = (value: TextValue): Text => text`it is ${value}`;
  const values: (() => TextValue)[] = [
    () => 'web',
    () => '1',
    () => 1,
    mac,
    () => parseMac('02:00:00:00:00:02'),
    () => parseIp('10.0.0.1'),
    () => [],
    () => [mac()],
    () => [mac(), 'web'],
    () => text`nested ${mac()}`,
    () => text`nested ${'web'}`,
  ];
  for (const [i, a] of values.entries()) {
    for (const [j, b] of values.entries()) t.equal(sameText(at(a()), at(b())), i === j, `${i} and ${j}`);
  }
  t.notOk(sameText(text`a`, text`b`));
});
