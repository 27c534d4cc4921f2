/** Checks that fail, and ejections: whom they exclude, and until when. */
import t from 'tap';
import { formatIp, parseIp } from '../../src/flow/types.ts';
import type { Services } from '../../src/table/services.ts';
import { backends, chosenFor, service, serviceTable, tuple } from '../support/services.ts';

const ID = 'default/web';

function candidates(services: Services): string {
  const { selection } = chosenFor(services, tuple(0));
  return selection.candidates.map(({ backend }) => formatIp(backend.address).split('.')[3]).join(' ');
}

function address(last: number): Uint8Array {
  return parseIp(`10.0.1.${last}`);
}

t.test('a backend whose checks fail, or that is ejected, is no candidate until both are over', async (t) => {
  const { services, changes } = serviceTable();
  services.set(service({ backends: backends(4) }), 0);
  changes.drain();
  services.setHealth(ID, 'check_failed', [[address(1), 'connection refused']]);
  t.same(changes.drain().changed, ['service/default/web']);
  services.setHealth(ID, 'ejected', [[address(1), '5 connections in a row have failed']]);
  services.setHealth(ID, 'ejected', [[address(2), '5 connections in a row have failed']]);
  t.same(changes.drain().changed, ['service/default/web']);
  t.equal(candidates(services), '3 4');
  services.setHealth(ID, 'ejected', [[address(2), '5 connections in a row have failed']]);
  t.ok(changes.isEmpty, 'no news');
  services.setHealth(ID, 'check_failed', [[address(1), undefined]]);
  services.setHealth(ID, 'check_failed', [[address(1), 'connection refused']]);
  t.match(services.healthOf(ID, backends(1)[0]!), { kind: 'check_failed' }, 'which excludes it always');
  services.setHealth(ID, 'check_failed', [[address(1), undefined]]);
  t.equal(candidates(services), '3 4');
  t.same(services.healthOf(ID, { ...backends(1)[0]! }), {
    kind: 'ejected',
    detail: '5 connections in a row have failed',
  });
  services.setHealth(ID, 'ejected', [[address(1), undefined]]);
  t.equal(candidates(services), '1 3 4');
  t.equal(services.healthOf(ID, backends(1)[0]!), undefined);
});

t.test('it stays when the service changes, as long as the service has the backend', async (t) => {
  const { services } = serviceTable();
  services.set(service({ backends: backends(4) }), 0);
  services.setHealth(ID, 'check_failed', [[address(1), 'connection refused']]);
  services.set(service({ backends: backends(5) }), 0);
  t.equal(candidates(services), '2 3 4 5');
  services.set(service({ backends: backends(5).slice(1) }), 0);
  services.set(service({ backends: backends(5) }), 0);
  t.equal(candidates(services), '1 2 3 4 5', 'another one with its address is not it');
  services.setHealth(ID, 'check_failed', [[address(1), 'connection refused']]);
  services.remove(ID);
  services.set(service({ backends: backends(5) }), 0);
  t.equal(candidates(services), '1 2 3 4 5');
});

t.test('who terminates takes over if no ready one is healthy, and then who is ejected', async (t) => {
  const { services } = serviceTable();
  const leaving = { ready: false, serving: true, terminating: true };
  services.set(service({ backends: backends(3, (at) => (at === 2 ? leaving : {})) }), 0);
  services.setHealth(ID, 'ejected', [[address(1), 'no']]);
  t.equal(candidates(services), '2');
  services.setHealth(ID, 'ejected', [[address(2), 'no']]);
  t.equal(candidates(services), '3');
  services.setHealth(ID, 'check_failed', [[address(3), 'no']]);
  t.equal(candidates(services), '1 2');
  for (const last of [1, 2]) services.setHealth(ID, 'check_failed', [[address(last), 'no']]);
  t.match(chosenFor(services, tuple(0)), { kind: 'none', why: 'no_backend' });
});
