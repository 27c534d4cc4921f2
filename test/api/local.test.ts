/** Requests to a switch in the same process: what a socket would carry, and what ends with the switch. */
import t from 'tap';
import { Client } from '../../src/api/client.ts';
import { LocalTransport } from '../../src/api/local.ts';
import { WeftError } from '../../src/error.ts';
import { NetworkHandle } from '../../src/library/network-handle.ts';
import { endpoint, fakeSwitch, flow, untilFollowers } from './fake-switch.ts';

function local() {
  const sw = fakeSwitch();
  const defects: unknown[] = [];
  const life = { isStopping: false };
  const target = { sw, isStopping: () => life.isStopping, shutdown: () => Promise.resolve() };
  return { sw, life, defects, client: new Client(new LocalTransport(target, (error) => defects.push(error))) };
}

t.test('answers and failures are those of the API', async (t) => {
  const { sw, client, defects } = local();
  t.equal((await client.status()).forwarding, true);
  t.same(await client.endpoints(), [endpoint]);
  await client.createNetwork('red', { subnets: ['10.1.0.0/24'] });
  t.same(sw.calls, ['createNetwork red {"subnets":["10.1.0.0/24"]}']);
  await t.rejects(
    client.removeNetwork('blue'),
    new WeftError('conflict', 'network "blue" has 1 endpoint: detach it first'),
  );
  await t.rejects(client.createNetwork('Red', {}), { code: 'invalid', message: /^name: "Red"/ });
  sw.status = () => {
    throw new Error('unforeseen');
  };
  await t.rejects(client.status(), { code: 'internal' });
  t.match(defects, [{ message: 'unforeseen' }]);
});

t.test('what is followed ends when its reader stops, or the signal does', async (t) => {
  const { sw, client } = local();
  const abort = new AbortController();
  const following = client.followFlows(abort.signal);
  t.same((await following.next()).value, { kind: 'open' });
  for (const listener of sw.flowListeners) listener(flow);
  t.same((await following.next()).value, { kind: 'item', item: flow });
  const next = following.next();
  abort.abort();
  t.same(await next, { done: true, value: undefined });
  await untilFollowers(sw, () => sw.flowListeners.size === 0);
  for await (const { kind } of client.followFlows(new AbortController().signal)) if (kind === 'open') break;
  await untilFollowers(sw, () => sw.flowListeners.size === 0);
});

t.test('a switch that is closed answers nothing', async (t) => {
  const { client, life } = local();
  life.isStopping = true;
  await t.rejects(client.status(), new WeftError('unreachable', 'this switch is closed'));
  await t.resolves(new NetworkHandle(client, 'blue')[Symbol.asyncDispose](), 'it has ended what handles stand for');
});
