/**
 * `examples/bookinfo` on two hosts with a shared store: its manifests are accepted, and its programs reach each other.
 *
 *      left (alpha in the example)             right (beta)
 *   tester  productpage-v1                   ratings-v1
 *           details-v1  reviews-v1           reviews-v2  reviews-v3
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseDocuments } from '../../src/model/document.ts';
import { destinationRuleKind } from '../../src/model/kinds/destination-rule.ts';
import { kinds } from '../../src/model/kinds/registry.ts';
import { virtualServiceKind } from '../../src/model/kinds/virtual-service.ts';
import { validate } from '../../src/model/validate.ts';
import { packageRoot } from '../../src/package.ts';
import { openLab, type Namespace } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { underlay } from '../support/topology.ts';
import { twoHosts } from '../support/two-hosts.ts';
import type { Weft } from '../support/weft.ts';

const example = join(packageRoot, 'examples/bookinfo');
const programs = {
  'productpage-v1': { DETAILS: '10.70.0.12:9080', REVIEWS: '10.70.0.15:9080' },
  'details-v1': {},
  'reviews-v1': {},
  'ratings-v1': {},
  'reviews-v2': { VERSION: 'v2', RATINGS: '10.70.0.13:9080' },
  'reviews-v3': { VERSION: 'v3', RATINGS: '10.70.0.13:9080' },
} as const satisfies Record<string, Record<string, string>>;
type Program = keyof typeof programs;

interface Answer {
  readonly servedBy: string;
  readonly color?: string;
  readonly ratedBy?: string;
  readonly ratingsFailed?: string;
  readonly failed?: string;
  readonly reviews?: readonly { readonly reader: string; readonly stars?: number }[];
}

t.test('all manifests are valid', (t) => {
  const files = readdirSync(example, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.yaml'));
  const seen = new Set<string>();
  for (const file of files) {
    for (const { value, locate } of parseDocuments(readFileSync(join(example, file), 'utf8'), file)) {
      const { kind } = value as { readonly kind: string };
      seen.add(kind);
      const known = [...kinds, destinationRuleKind, virtualServiceKind].find((one) => one.kind === kind);
      if (known) t.doesNotThrow(() => validate(known.schema, value, { locate }), file);
      else t.equal(kind, 'Service', `${file}: the only kind that weft does not have`);
    }
  }
  t.same([...seen].sort(), ['DestinationRule', 'Endpoint', 'Network', 'Service', 'VirtualService']);
  t.end();
});

t.test('the programs reach each other, on one host and across', { skip: needsRoot }, async (t) => {
  const lab = openLab(t);
  const { left, right } = await twoHosts(lab, await underlay(lab, 'ipv4'), { datapath: 'native', store: 'etcd' });
  const containers = new Map<string, Namespace>();

  /** Applies a manifest of the example, with namespaces of this test. */
  const apply = async (weft: Weft, file: string): Promise<void> => {
    let text = readFileSync(join(example, file), 'utf8');
    for (const [all, name = ''] of text.matchAll(/netns: ([\w-]+)/g)) {
      const container = await lab.namespace(name);
      containers.set(name, container);
      text = text.replace(all, `netns: ${container.path}`);
    }
    const copy = join(lab.directory, file);
    writeFileSync(copy, text);
    await weft.run('apply', '-f', copy, '--wait=60s');
  };
  await apply(left, 'network.yaml');
  await apply(left, 'alpha.yaml');
  await apply(right, 'beta.yaml');

  const start = async (name: Program) => {
    const variables = Object.entries(programs[name]).map(([key, value]) => `${key}=${value}`);
    const file = join(example, 'programs', `${name.replace(/-v\d$/, '')}.mjs`);
    const program = containers.get(name)!.start(['env', ...variables, process.execPath, file]);
    await program.says(`${name} listens on port 9080`);
    return program;
  };
  const started = new Map(
    await Promise.all((Object.keys(programs) as Program[]).map(async (name) => [name, await start(name)] as const)),
  );
  const ask = (url: string): Promise<string> => containers.get('tester')!.run(['curl', '-sS', '--fail', url]);
  const answer = async (url: string): Promise<Answer> => JSON.parse(await ask(url)) as Answer;
  const product = async () =>
    JSON.parse(await ask('http://10.70.0.11:9080/products/0')) as {
      readonly details: Answer;
      readonly reviews: Answer;
    };

  const { details, reviews } = await product();
  t.equal(details.servedBy, 'details-v1');
  t.match(reviews, { servedBy: 'reviews-v2', color: 'black', ratedBy: 'ratings-v1' });
  t.same(
    reviews.reviews?.map(({ stars }) => stars),
    [5, 3],
  );
  const one = await answer('http://10.70.0.14:9080/reviews/1');
  t.match(one, { servedBy: 'reviews-v1', color: undefined });
  t.equal(one.reviews?.[0]?.stars, undefined, 'v1 shows no stars');
  t.match(await answer('http://10.70.0.16:9080/reviews/1'), { servedBy: 'reviews-v3', color: 'red' });
  t.match(await ask('http://10.70.0.11:9080/productpage'), /★★★☆☆/);
  t.equal(await ask('http://10.70.0.13:9080/healthz'), 'ok\n');
  const absent = await containers.get('tester')!.attempt(['curl', '-sS', '--fail', 'http://10.70.0.12:9080/details/7']);
  t.equal(absent.code, 22, 'a book that there is not');

  await apply(left, 'services.yaml');
  const service = (await left.json('get', 'service', 'reviews')) as { readonly spec: { readonly clusterIP: string } };
  const reached = new Set<string>();
  for (let i = 0; i < 60 && reached.size < 3; i++) {
    reached.add((await answer(`http://${service.spec.clusterIP}:9080/reviews/0`)).servedBy);
  }
  t.same([...reached].sort(), ['reviews-v1', 'reviews-v2', 'reviews-v3'], 'by the address of their service');

  const traffic = (file: string) => left.run('apply', '-f', join(example, 'traffic', file), '--wait=60s');
  const versions = async (count: number): Promise<string[]> => {
    const got = new Set<string>();
    for (let i = 0; i < count; i++) {
      got.add((await answer(`http://${service.spec.clusterIP}:9080/reviews/0`)).servedBy);
    }
    return [...got].sort();
  };
  await traffic('subsets.yaml');
  await traffic('all-v1.yaml');
  t.same(await versions(10), ['reviews-v1']);
  await traffic('90-10.yaml');
  t.notOk((await versions(40)).includes('reviews-v2'), 'the shares are those of v1 and v3');
  await traffic('tester-v2.yaml');
  t.same(await versions(10), ['reviews-v2'], 'the tester is told from others by its labels');
  const shown = await left.run('services', 'reviews');
  t.match(shown, /Rule: +destinationrule default\/reviews\n/);
  t.match(shown, /Route 1: +from app=tester: subset v2\nRoute 2: +all: subset v1\n/);
  await left.run('delete', 'virtualservice', 'reviews');
  await left.run('delete', 'destinationrule', 'reviews');

  t.equal(await started.get('ratings-v1')!.stop('SIGTERM'), 0, 'a program ends when it is asked to');
  t.match((await product()).reviews, { servedBy: 'reviews-v2', ratingsFailed: /ECONNREFUSED/ });
  t.match(await ask('http://10.70.0.11:9080/productpage'), /the ratings are not available/);
  await started.get('reviews-v2')!.stop('SIGKILL');
  t.match((await product()).reviews, { failed: /ECONNREFUSED/ });
  const page = await ask('http://10.70.0.11:9080/productpage');
  t.match(page, /The reviews are not available/);
  t.match(page, /The Switch on the Shelf/, 'the rest of the page is there');
});
