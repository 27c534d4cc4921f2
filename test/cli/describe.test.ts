/** `weft describe`. */
import t from 'tap';
import { fixture } from './fixture.ts';

t.setTimeout(60_000);

t.test('what was declared is described exactly, and maps within maps as YAML', async (t) => {
  const { sw, weft } = await fixture(t);
  const declared = (kind: string, spec: object): void =>
    void Object.assign(sw, { get: () => [{ apiVersion: 'v1', kind, metadata: { name: 'shop', labels: {} }, spec }] });
  declared('Service', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] });
  const shop = (await weft(['describe', 'service', 'shop'])).stdout;
  t.match(shop, 'Spec:\n  type:   NodePort\n  ports:  port=80,nodePort=30080\n');
  declared('DestinationRule', {
    trafficPolicy: { connectionPool: { tcp: { maxConnections: 20_000 } } },
    host: 'shop',
    subsets: [{ name: 'v1', labels: { version: 'v1' } }],
  });
  t.match(
    (await weft(['describe', 'destinationrule', 'shop'])).stdout,
    `Spec:
  host:  shop
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 20000
  subsets:
    - name: v1
      labels:
        version: v1
`,
  );
});
