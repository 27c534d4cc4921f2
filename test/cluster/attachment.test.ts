/** Attaching again changes what the options name, and nothing else. */
import t from 'tap';
import { attachment, type AttachOptions } from '../../src/cluster/attachment.ts';

const place = { name: 'web', network: 'blue', netns: 'web' };
const first = attachment(
  {
    ...place,
    namespace: 'shop',
    ip: ['10.0.0.10'],
    ifname: 'eth1',
    labels: { app: 'web', tier: 'front' },
    wildcard: true,
    trust: true,
    ports: [{ name: 'http', port: 80 }],
    publish: [{ hostPort: 8080, port: 80 }],
    rateLimit: { ingress: '50mbit', egress: '1gbit', burst: '1mb' },
  },
  undefined,
);
t.same(first.metadata.annotations, { 'weft.dev/wildcard': 'true' });

const again = (change: Partial<AttachOptions>) => attachment({ ...place, ...change }, first);

t.test('with fewer options nothing is lost', async (t) => {
  t.same(again({}), first);
  const { netns: _, ...spec } = first.spec;
  t.same(attachment({ name: 'web', network: 'blue', pid: 7 }, first).spec, { ...spec, pid: 7 }, 'but its place');
});

t.test('each option changes its own', async (t) => {
  t.same(again({ labels: { app: 'shop' } }).metadata.labels, { app: 'shop', tier: 'front' });
  t.same(again({ publish: [{ hostPort: 8443, port: 443 }] }).spec, {
    ...first.spec,
    publish: [{ hostPort: 8443, port: 443, protocol: 'TCP' }],
  });
  t.same(again({ ports: [{ name: 'dns', port: 53, protocol: 'UDP' }] }).spec, {
    ...first.spec,
    ports: [{ name: 'dns', port: 53, protocol: 'UDP' }],
  });
  t.same(again({ rateLimit: { egress: '2gbit' } }).spec.rateLimit, {
    ingress: '50mbit',
    egress: '2gbit',
    burst: '1mb',
  });
  t.same(again({ trust: false }).spec, { ...first.spec, trust: false });
});

t.test('each can be taken away', async (t) => {
  t.same(again({ labels: { app: null, none: null } }).metadata.labels, { tier: 'front' });
  t.same(again({ publish: [] }).spec.publish, []);
  t.same(again({ ports: [] }).spec.ports, []);
  t.equal(again({ rateLimit: null }).spec.rateLimit, undefined);
  t.same(again({ rateLimit: { ingress: null } }).spec.rateLimit, { egress: '1gbit', burst: '1mb' });
  t.equal(again({ rateLimit: { ingress: null, egress: null } }).spec.rateLimit, undefined, 'a burst alone is no limit');
  t.notOk('annotations' in again({ wildcard: false }).metadata);
  const described = { ...first, metadata: { ...first.metadata, annotations: { 'example.com/a': 'b' } } };
  const others = attachment({ ...place, wildcard: true }, described).metadata.annotations;
  t.same(others, { 'example.com/a': 'b', 'weft.dev/wildcard': 'true' }, 'those of others stay');
});
