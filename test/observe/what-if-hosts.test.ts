/** The answers of several hosts to what-if, as one: whatever they say, it is bounded, and who has not answered is named. */
import t from 'tap';
import { MOST_ANSWER_BYTES } from '../../src/cluster/membership/questions.ts';
import { hostDiffReport, type HostDiffReport } from '../../src/model/policy-report.ts';
import { boundedAnswer, withAnswers } from '../../src/observe/what-if-hosts.ts';
import { diff } from '../api/fake-switch.ts';

const { connections, flowClasses, services } = diff;
const own: HostDiffReport = { connections, flowClasses, services };
const asked = (given: Readonly<Record<string, unknown>>, missing: Readonly<Record<string, string>> = {}) =>
  withAnswers('b', own, { given: new Map(Object.entries(given)), missing: new Map(Object.entries(missing)) });

t.test('what all say is counted together, and each line has its host', (t) => {
  const later = '2025-02-01T00:00:00.000Z';
  const [one] = services.changed;
  const ofA = { ...own, services: { ...services, changed: [{ ...one!, lastSeen: later }] } };
  const { services: of, connections: live, hosts } = asked({ a: ofA }, { c: 'it is down' });
  t.same(
    of.changed.map(({ host, lastSeen }) => [host, lastSeen]),
    [
      ['a', later],
      ['b', one!.lastSeen],
    ],
    'the latest first',
  );
  t.same(
    of.ended.map(({ host }) => host),
    ['b', 'a'],
  );
  t.same([of.more, live.live], [8, 14]);
  t.same(hosts, [
    { name: 'a', answered: true },
    { name: 'b', answered: true },
    { name: 'c', answered: false, why: 'it is down' },
  ]);
  t.end();
});

t.test('an earlier version says nothing of services; what is no answer is told', (t) => {
  const { services: of, hosts } = asked({
    a: { connections, flowClasses },
    c: { ...own, flowClasses: { ...flowClasses, changed: [{ ...flowClasses.changed[0]!, lastSeen: 'never' }] } },
    d: { why: 'it does not understand the change' },
    e: null,
  });
  t.equal(of.ended.length, 1);
  t.match(hosts, [
    { name: 'a', answered: true },
    { name: 'b', answered: true },
    { name: 'c', answered: false, why: 'its answer is not understood' },
    { name: 'd', answered: false, why: 'it does not understand the change' },
    { name: 'e', answered: false, why: 'its answer is not understood' },
  ]);
  t.end();
});

t.test('an answer is as long as may be, and counts what it leaves out', (t) => {
  const because = 'x'.repeat(1000);
  const many = <T extends object>([one]: readonly T[]) => Array.from({ length: 500 }, () => ({ ...one!, because }));
  const long = {
    connections: { ...connections, ended: many(connections.ended) },
    flowClasses: { ...flowClasses, changed: many(flowClasses.changed) },
    services: { ...services, ended: many(services.ended), changed: many(services.changed) },
  };
  const answer = boundedAnswer(long);
  t.ok(Buffer.byteLength(JSON.stringify(answer)) <= MOST_ANSWER_BYTES);
  t.ok(hostDiffReport.safeParse(answer).success);
  const { ended, changed, more } = answer.services;
  t.equal(ended.length * 2 + changed.length + more, 500 * 2 + 500 + services.more);
  t.end();
});
