/** What `weft services NAME` says of rules. */
import t from 'tap';
import { ruleFields } from '../../src/cli/rule-text.ts';
import { service } from '../api/fake-switch.ts';

t.test('a line for the rule, its limit, and each port and subset with settings of its own', async (t) => {
  t.same(ruleFields(service), [], 'nothing without a rule');
  const plain = { balancing: 'maglev', trafficDistribution: 'none' } as const;
  const [first, second] = service.backends;
  const ruled = {
    ...service,
    destinationRule: 'default/reviews',
    maxConnections: 100,
    backends: [
      { ...first!, subsets: ['v1'] },
      { ...second!, subsets: [] },
    ],
    portSpreads: { 80: { ...plain, balancing: 'random' as const, maxConnections: 1 } },
    subsets: {
      v1: { ...plain, portSpreads: {} },
      v3: { ...plain, portSpreads: { 81: { ...plain, trafficDistribution: 'same-node' as const } } },
    },
  };
  t.same(ruleFields(ruled), [
    ['Rule', 'destinationrule default/reviews'],
    ['Limit', 'at most 100 connections a backend'],
    ['Port 80', 'random, at most 1 connection a backend'],
    ['Subset v1', '1 backend, maglev'],
    ['Subset v3', '0 backends, maglev; port 81 maglev, same-node'],
  ]);
});
