/** weft's own labels: those that mean something are accepted, and all others that begin with its prefix are refused with their place. */
import t from 'tap';
import { parseManifests } from '../../src/model/manifest.ts';

const labelled = (text: string): string =>
  `apiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: {name: web, labels: {${text}}}\nspec: {network: blue, netns: web}\n`;

t.test('what weft has no label for is refused, with its place', (t) => {
  t.throws(() => parseManifests(labelled('weft.dev/drian: "true"'), 'net.yaml'), {
    code: 'invalid',
    message:
      'net.yaml:3:32: metadata.labels["weft.dev/drian"]: "weft.dev/drian" is no label of weft, did you mean "weft.dev/drain"? accepted is weft.dev/drain',
  });
  const shop = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {weft.dev/drain: "true"}}';
  t.throws(() => parseManifests(shop, 'shop.yaml'), {
    message:
      'shop.yaml:3:33: metadata.labels["weft.dev/drain"]: "weft.dev/drain" is no label of weft for a Namespace: it has none',
  });
  t.end();
});

t.test('the labels that it has, and those of others, are accepted', (t) => {
  for (const text of ['weft.dev/drain: ""', 'example.com/weft.dev: "yes"'])
    t.match(parseManifests(labelled(text), 'net.yaml')[0], { metadata: { name: 'web' } }, text);
  t.end();
});
