/** Health checks as annotations of a Service: defaults, and the exact words for what is not accepted. */
import t from 'tap';
import * as z from 'zod';
import { checkHealthAnnotations, healthCheckOf } from '../../src/model/health-check.ts';
import { validate } from '../../src/model/validate.ts';

const schema = z
  .object({ annotations: z.record(z.string(), z.string()) })
  .superRefine(({ annotations }, context) => checkHealthAnnotations(annotations, context, ['annotations']));

const key = (suffix: string): string => `weft.dev/health-check${suffix}`;

function refusal(annotations: Readonly<Record<string, string>>): string {
  try {
    validate(schema, { annotations }, { field: 'metadata' });
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
}

t.test('what is not said has a default', async (t) => {
  t.equal(healthCheckOf({ 'weft.dev/ports': '1-2', other: 'x' }), undefined);
  t.equal(refusal({ 'weft.dev/ports': '1-2', other: 'x' }), 'accepted');
  const tcp = {
    type: 'tcp',
    path: '/',
    port: undefined,
    intervalMs: 10_000,
    timeoutMs: 1000,
    failures: 3,
    successes: 1,
  };
  t.same(healthCheckOf({ [key('')]: 'tcp' }), tcp);
  const all = {
    [key('')]: 'http',
    [key('-path')]: '/healthz?full=1',
    [key('-port')]: 'metrics',
    [key('-interval')]: '1m30s',
    [key('-timeout')]: '500ms',
    [key('-failures')]: '5',
    [key('-successes')]: '2',
  };
  t.equal(refusal(all), 'accepted');
  t.same(healthCheckOf(all), {
    ...{ type: 'http', path: '/healthz?full=1', port: 'metrics' },
    ...{ intervalMs: 90_000, timeoutMs: 500, failures: 5, successes: 2 },
  });
  t.equal(healthCheckOf({ [key('')]: 'tcp', [key('-port')]: '8080' })!.port, 8080, 'a number');
});

t.test('what is not accepted', async (t) => {
  const path = (suffix: string): string => `metadata.annotations["${key(suffix)}"]`;
  const http = { [key('')]: 'http' };
  const cases: [annotations: Record<string, string>, message: string][] = [
    [{ [key('')]: 'grpc' }, `${path('')}: "grpc" is not accepted: accepted are tcp and http`],
    [
      { [key('-interval')]: '5s' },
      `${path('-interval')}: "5s" is not accepted: has no effect without weft.dev/health-check, which is tcp or http`,
    ],
    [
      { ...http, [key('-intervall')]: '5s' },
      `${path('-intervall')}: "5s" is not accepted: is not supported here, did you mean "${key('-interval')}"? accepted are ${['', '-path', '-port', '-interval', '-timeout', '-failures', '-successes'].map(key).join(', ')}`,
    ],
    [
      { ...http, [key('-path')]: 'healthz' },
      `${path('-path')}: "healthz" is not a path: it begins with "/" and has no spaces`,
    ],
    [
      { ...http, [key('-path')]: '/a\r\nx: y' },
      `${path('-path')}: "/a\\r\\nx: y" is not a path: it begins with "/" and has no spaces`,
    ],
    [
      { [key('')]: 'tcp', [key('-path')]: '/x' },
      `${path('-path')}: "/x" is not accepted: is for weft.dev/health-check: http`,
    ],
    [
      { ...http, [key('-port')]: '70000' },
      `${path('-port')}: "70000" is not accepted: a port is a whole number, 1 to 65535`,
    ],
    [
      { ...http, [key('-port')]: 'Web' },
      `${path('-port')}: "Web" is not a name: 1 to 63 lower-case letters, digits and "-", a letter or digit at both ends`,
    ],
    [
      { ...http, [key('-interval')]: '5' },
      `${path('-interval')}: "5" is not a duration: an interval is 100ms to 1h, such as 500ms, 30s or 1h30m`,
    ],
    [
      { ...http, [key('-interval')]: '2h' },
      `${path('-interval')}: "2h" is out of range: an interval is 100ms to 1h, such as 500ms, 30s or 1h30m`,
    ],
    [
      { ...http, [key('-timeout')]: '11s' },
      `${path('-timeout')}: "11s" is not accepted: a timeout is no longer than the interval`,
    ],
    [
      { ...http, [key('-interval')]: '500ms' },
      `${path('-interval')}: "500ms" is not accepted: it is shorter than the timeout, 1s: give a timeout that is not longer`,
    ],
    [
      { ...http, [key('-failures')]: '0' },
      `${path('-failures')}: "0" is not accepted: how many failures in a row make a backend unhealthy is a whole number, 1 to 100`,
    ],
  ];
  for (const [annotations, message] of cases) t.equal(refusal(annotations), message, JSON.stringify(annotations));
});
