/** Checks that fail, and ejections: what they exclude, for how long, and how many at once. */
import t from 'tap';
import { formatIp, parseIp } from '../../src/flow/types.ts';
import type { OutlierLimits } from '../../src/table/service.ts';
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

t.test('a backend whose checks fail, or that is ejected, is no candidate until that is over', async (t) => {
  const { services, changes } = serviceTable();
  services.set(service({ backends: backends(4) }), 0);
  changes.drain();
  services.setHealth(ID, address(1), 'connection refused');
  t.same(changes.drain().changed, ['service/default/web']);
  t.ok(services.eject(ID, address(2), 5000, '5 connections in a row have failed'));
  t.same(changes.drain().changed, ['service/default/web']);
  t.equal(candidates(services), '3 4');
  services.setHealth(ID, address(1), 'connection refused');
  t.ok(changes.isEmpty, 'no news');
  services.expire(4999);
  t.ok(changes.isEmpty);
  t.equal(candidates(services), '3 4');
  services.expire(5000);
  t.same(changes.drain().changed, ['service/default/web']);
  t.equal(candidates(services), '2 3 4');
  services.setHealth(ID, address(1), undefined);
  t.equal(candidates(services), '1 2 3 4');
});

t.test('it stays when the service changes, as long as the service has the backend', async (t) => {
  const { services } = serviceTable();
  services.set(service({ backends: backends(4) }), 0);
  services.setHealth(ID, address(1), 'connection refused');
  services.set(service({ backends: backends(5) }), 0);
  t.equal(candidates(services), '2 3 4 5');
  services.set(service({ backends: backends(5).slice(1) }), 0);
  services.set(service({ backends: backends(5) }), 0);
  t.equal(candidates(services), '1 2 3 4 5', 'another one with its address is not it');
  services.setHealth(ID, address(1), 'connection refused');
  services.remove(ID);
  services.set(service({ backends: backends(5) }), 0);
  t.equal(candidates(services), '1 2 3 4 5');
});

t.test('who terminates takes over if no ready one is healthy', async (t) => {
  const { services } = serviceTable();
  const leaving = { ready: false, serving: true, terminating: true };
  services.set(service({ backends: backends(3, (at) => (at === 2 ? leaving : {})) }), 0);
  services.setHealth(ID, address(1), 'no');
  t.equal(candidates(services), '2');
  services.setHealth(ID, address(2), 'no');
  t.equal(candidates(services), '3');
});

t.test('at most a share is ejected at once, but always one of several', async (t) => {
  const { services } = serviceTable();
  const ejected = (count: number, outliers?: OutlierLimits): number => {
    services.remove(ID);
    services.set(service({ backends: backends(count), outliers }), 0);
    const all = Array.from({ length: count }, (_, at) => services.eject(ID, address(at + 1), 1000, 'by the test'));
    t.equal(candidates(services).split(' ').length, count - all.filter(Boolean).length);
    return all.filter(Boolean).length;
  };
  const share = (largestEjectedShare: number): OutlierLimits => ({ largestEjectedShare, panicThreshold: 0 });
  t.equal(ejected(3), 1, 'a tenth unless it is said');
  t.equal(ejected(40), 4);
  t.equal(ejected(1), 0, 'not the only one');
  t.equal(ejected(10, share(0.5)), 5);
  t.equal(ejected(10, share(0)), 0);
  services.set(service({ backends: backends(3) }), 0);
  t.equal(ejected(3), 1);
  t.ok(services.eject(ID, address(1), 2000, 'longer'), 'who is ejected may be ejected for longer');
  services.expire(1000);
  t.equal(candidates(services), '2 3');
  t.notOk(services.eject(ID, address(2), 3000, 'by the test'));
  services.expire(2000);
  t.ok(services.eject(ID, address(2), 3000, 'by the test'), 'the next one, when it is back');
  t.notOk(services.eject(ID, parseIp('10.0.9.9'), 3000, 'it is not one of them'));
});

t.test('if too few of the ready ones are healthy, health excludes nobody', async (t) => {
  const { services } = serviceTable();
  const outliers = { largestEjectedShare: 0.1, panicThreshold: 0.5 };
  services.set(service({ backends: backends(5, (at) => ({ ready: at < 4 })), outliers }), 0);
  services.setHealth(ID, address(1), 'no');
  services.setHealth(ID, address(2), 'no');
  t.equal(candidates(services), '3 4', 'half of them are enough');
  services.setHealth(ID, address(3), 'no');
  t.equal(candidates(services), '1 2 3 4');
  services.setHealth(ID, address(1), undefined);
  t.equal(candidates(services), '1 4');
});
