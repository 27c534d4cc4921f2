/** Rates and bursts as text: which are accepted, what they mean, and the error for the others. */
import t, { type Test } from 'tap';
import { WeftError } from '../../src/error.ts';
import { parseResource } from '../../src/model/manifest.ts';
import { burst, burstBytes, defaultBurstBytes, rate, rateBytes } from '../../src/model/rate.ts';
import type { EndpointResource } from '../../src/model/kinds/endpoint.ts';

t.test('rates are tc’s', async (t) => {
  const rates: readonly [string, number, string][] = [
    ['8000bit', 1000, '8kbit'],
    ['8kbit', 1000, '8kbit'],
    ['100mbit', 12_500_000, '100mbit'],
    ['1gbit', 125_000_000, '1gbit'],
    ['1.5gbit', 187_500_000, '1500mbit'],
    ['0.5mbit', 62_500, '500kbit'],
    ['12.5mbps', 12_500_000, '100mbit'],
    ['1000bps', 1000, '8kbit'],
    ['10kbps', 10_000, '80kbit'],
    ['1.001mbps', 1_001_000, '8008kbit'],
    ['12.5gbps', 12_500_000_000, '100gbit'],
    ['100gbit', 12_500_000_000, '100gbit'],
    ['8001bit', 1000, '8kbit'],
  ];
  for (const [text, bytes, canonical] of rates) {
    t.equal(rate.parse(text), canonical, text);
    t.equal(rateBytes(canonical), bytes, text);
    t.equal(rate.parse(canonical), canonical, `${text} again`);
  }
});

t.test('bursts are sizes in bytes', async (t) => {
  const bursts: readonly [string, number, string][] = [
    ['64kb', 65_536, '64kb'],
    ['65536b', 65_536, '64kb'],
    ['65537b', 65_537, '65537b'],
    ['1.5mb', 1_572_864, '1536kb'],
    ['256mb', 268_435_456, '256mb'],
  ];
  for (const [text, bytes, canonical] of bursts) {
    t.equal(burst.parse(text), canonical, text);
    t.equal(burstBytes(canonical), bytes, text);
  }
  t.same([1000, 12_500_000, 12_500_000_000].map(defaultBurstBytes), [131_072, 3_125_000, 268_435_456]);
});

t.test('what is no rate is refused with its field and what is accepted', async (t) => {
  const isNoRate = (text: string) =>
    `spec.rateLimit.ingress: ${JSON.stringify(text)} is not a rate like 100mbit: a number and bit, kbit, mbit or gbit (bits a second), or bps, kbps, mbps or gbps (bytes a second)`;
  for (const text of [
    ...['', '100', 'mbit', '100 mbit', ' 100mbit', '100mbit ', '-1mbit', '+1mbit', '1e3mbit', '0x10mbit', '01mbit'],
    ...[
      '1.mbit',
      '.5mbit',
      '1,5mbit',
      '1.0001mbit',
      '100Mbit',
      '100MBps',
      '100mb',
      '100mbit/s',
      '100tbit',
      '1constructor',
    ],
    ...['NaN', 'Infinitybit', '9999999999999bit', '١mbit'],
  ]) {
    refuses(t, { ingress: text }, isNoRate(text));
  }
  const range = 'is out of range: a rate is 8kbit to 100gbit';
  for (const text of ['0bit', '0mbit', '7999bit', '7.999kbit', '100.001gbit', '999gbps']) {
    refuses(t, { egress: text }, `spec.rateLimit.egress: ${JSON.stringify(text)} ${range}`);
  }
  const ok = { ingress: '1mbit' };
  const isNoSize = 'is not a size like 256kb: a number and b, kb (1024 bytes) or mb';
  for (const text of ['', '65536', '1gb', '64KB', '1mbit']) {
    refuses(t, { ...ok, burst: text }, `spec.rateLimit.burst: ${JSON.stringify(text)} ${isNoSize}`);
  }
  for (const text of ['63kb', '65535b', '257mb']) {
    refuses(
      t,
      { ...ok, burst: text },
      `spec.rateLimit.burst: ${JSON.stringify(text)} is out of range: a burst is 64kb to 256mb, and a superframe has up to 64kb`,
    );
  }
  refuses(t, { ingress: 100 }, /^spec\.rateLimit\.ingress: 100 is not accepted/);
  refuses(t, '100mbit', /^spec\.rateLimit: "100mbit" is not accepted/);
  refuses(t, {}, /^spec\.rateLimit: .*give ingress, egress or both$/);
  refuses(t, { burst: '64kb' }, /^spec\.rateLimit: .*give ingress, egress or both$/);
  refuses(
    t,
    { ...ok, rate: '1mbit' },
    'spec.rateLimit.rate is not supported here: accepted are ingress, egress, burst',
  );
});

t.test('an endpoint has canonical rates', async (t) => {
  const { spec } = endpoint({ ingress: '12.5mbps', egress: '50000kbit', burst: '1024kb' });
  t.same(spec.rateLimit, { ingress: '100mbit', egress: '50mbit', burst: '1mb' });
  t.same(endpoint({ egress: '1gbit' }).spec.rateLimit, { egress: '1gbit' });
});

function endpoint(rateLimit: unknown, more: object = {}): EndpointResource {
  return parseResource({
    apiVersion: 'weft.dev/v1',
    kind: 'Endpoint',
    metadata: { name: 'web' },
    spec: { network: 'blue', netns: 'web', rateLimit, ...more },
  }) as EndpointResource;
}

function refuses(t: Test, rateLimit: unknown, message: string | RegExp, more?: object): void {
  try {
    endpoint(rateLimit, more);
    t.fail(`${JSON.stringify(rateLimit)} is accepted`);
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    if (typeof message === 'string') t.equal(error.message, message);
    else t.match(error.message, message);
  }
}
