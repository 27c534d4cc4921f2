/** What is told of an endpoint that waits. */
import t from 'tap';
import { EndpointPlacing } from '../../src/cluster/endpoint-placing.ts';
import type { Endpoint } from '../../src/cluster/endpoint.ts';
import { WeftError } from '../../src/error.ts';

t.test('the log names an endpoint that waits once, and says a reason once', async (t) => {
  const log: object[] = [];
  const failures = new Map<string, WeftError>();
  const placing = new EndpointPlacing(
    { warn: (message: string, details: object) => void log.push({ message, ...details }) } as never,
    { failures, index: { set: () => {} } } as never,
  );
  const web = { name: 'web' } as Endpoint;
  const outside = 'ip fd00:1::12 is outside the subnets of network "blue" (10.0.0.0/24)';
  placing.wait(web, new WeftError('invalid', `endpoint "web": ${outside}`));
  placing.wait(web, new WeftError('invalid', `endpoint "web": ${outside}`));
  placing.wait(web, new WeftError('not_found', 'network "blue" does not exist'));
  const line = (error: string) => ({ message: 'endpoint waits', endpoint: 'web', error });
  t.same(log, [line(outside), line('network "blue" does not exist')]);
});
