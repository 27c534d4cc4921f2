/** Filters of flows, drops and the policy log: a name that nobody has is refused, unless something that is kept has it. */
import t from 'tap';
import { talkFilter, type Filtered, type KnownNames } from '../../src/observe/talk-filter.ts';

const kept: Filtered[] = [{ from: 'shop/gone', to: 'default/web' }];
const known: KnownNames = {
  hasEndpoint: (id) => ['web', 'shop/db'].includes(id),
  hasNetwork: (name) => name === 'blue',
  kept: () => kept,
};
const toWeb: Filtered = { from: 'shop/db', to: 'default/web', source: '10.0.0.3', destination: '10.0.0.2:80' };

t.test('a name of an endpoint, of one that has gone, of nobody', (t) => {
  for (const name of ['web', 'default/web']) t.ok(talkFilter({ to: name }, 0, known)(toWeb), name);
  t.notOk(talkFilter({ to: 'shop/db' }, 0, known)(toWeb));
  t.notOk(talkFilter({ from: 'shop/gone' }, 0, known)(toWeb), 'it is asked for by the name that it had');
  for (const field of ['from', 'to', 'endpoint'] as const) {
    t.throws(() => talkFilter({ [field]: 'gone' }, 0, known), {
      code: 'not_found',
      message: `${field}: endpoint "gone" does not exist: \`weft endpoints\` shows those that do`,
    });
  }
  t.throws(() => talkFilter({ network: 'red' }, 0, known), { code: 'not_found', message: /^network "red" does not/ });
  t.notOk(talkFilter({ network: 'blue' }, 0, known)(toWeb));
  t.end();
});

t.test('an address is one, whoever has it', (t) => {
  t.ok(talkFilter({ to: '10.0.0.0/24' }, 0, known)(toWeb));
  t.notOk(talkFilter({ to: '192.0.2.1' }, 0, known)(toWeb));
  t.end();
});
