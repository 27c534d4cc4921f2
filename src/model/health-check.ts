/**
 * Active health checks of a Service's backends, as annotations say it, since Kubernetes has no field for them:
 *
 *   weft.dev/health-check: http              tcp or http
 *   weft.dev/health-check-path: /healthz     for http; / if not given
 *   weft.dev/health-check-port: metrics      name or number; the target of the Service's first TCP port if not given
 *   weft.dev/health-check-interval: 5s       10s if not given
 *   weft.dev/health-check-timeout: 1s        1s if not given
 *   weft.dev/health-check-failures: 3        in a row until a backend is unhealthy; 3 if not given
 *   weft.dev/health-check-successes: 1       in a row until it is healthy again; 1 if not given
 */
import * as z from 'zod';
import { duration, durationMs, durationText } from './duration.ts';
import { didYouMean } from './nearest.ts';
import { name, quote } from './value.ts';

export const HEALTH_CHECK = 'weft.dev/health-check';
export const HEALTH_CHECK_PORT = `${HEALTH_CHECK}-port`;

const LEAST_INTERVAL_MS = 100;
const MOST_INTERVAL_MS = 3_600_000;
const MOST_IN_A_ROW = 100;
const MOST_PATH = 1024;

/** As it is checked, with defaults filled in. */
export interface HealthCheckSpec {
  readonly type: 'tcp' | 'http';
  /** For `http`. */
  readonly path: string;
  /** A number, the name of a port, or undefined for the target of the Service's first TCP port. */
  readonly port: number | string | undefined;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly failures: number;
  readonly successes: number;
}

type Annotations = Readonly<Record<string, string>>;

/** A whole number as text, as annotations have it. */
const counted = (is: string, most: number) =>
  z.string().transform((text, context) => {
    const value = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : Number.NaN;
    if (value <= most) return value;
    context.addIssue({
      code: 'custom',
      message: `${quote(text)} is not accepted: ${is} is a whole number, 1 to ${most}`,
    });
    return z.NEVER;
  });

const time = { leastMs: LEAST_INTERVAL_MS, mostMs: MOST_INTERVAL_MS };

/** A text of digits is a number, any other is a name. */
const port = z.string().transform((text, context) => {
  const result = (/^\d/.test(text) ? counted('a port', 65_535) : name).safeParse(text);
  if (result.success) return result.data;
  context.addIssue({ code: 'custom', message: result.error.issues[0]!.message });
  return z.NEVER;
});

/** By what follows `weft.dev/health-check`. */
const fields = {
  '': z.enum(['tcp', 'http']),
  '-path': z
    .string()
    .max(MOST_PATH, `a path has at most ${MOST_PATH} characters`)
    .regex(/^\/[!-~]*$/, {
      error: ({ input }) => `${quote(String(input))} is not a path: it begins with "/" and has no spaces`,
    })
    .default('/'),
  '-port': port.optional(),
  '-interval': duration('an interval', time).transform(durationMs).default(10_000),
  '-timeout': duration('a timeout', time).transform(durationMs).default(1000),
  '-failures': counted('how many failures in a row make a backend unhealthy', MOST_IN_A_ROW).default(3),
  '-successes': counted('how many successes in a row make a backend healthy', MOST_IN_A_ROW).default(1),
} as const;
const schema = z.object(fields);
export const HEALTH_CHECK_KEYS: readonly string[] = Object.keys(fields).map((suffix) => HEALTH_CHECK + suffix);

/** Reads validated annotations. @returns undefined if they ask for no checks */
export function healthCheckOf(annotations: Annotations): HealthCheckSpec | undefined {
  if (annotations[HEALTH_CHECK] === undefined) return undefined;
  const read = schema.parse(given(annotations));
  return {
    type: read[''],
    path: read['-path'],
    port: read['-port'],
    intervalMs: read['-interval'],
    timeoutMs: read['-timeout'],
    failures: read['-failures'],
    successes: read['-successes'],
  };
}

/** For the schema of a Service: reports what is wrong with annotations at their own places. @param path of the annotations */
export function checkHealthAnnotations(annotations: Annotations, context: z.RefinementCtx, path: PropertyKey[]): void {
  const refuse = (suffix: string, message: string): void => {
    const key = `${HEALTH_CHECK}${suffix}`;
    context.addIssue({ code: 'custom', path: [...path, key], input: annotations[key], message });
  };
  const found = given(annotations);
  const suffixes = Object.keys(found);
  for (const suffix of suffixes) {
    if (suffix in fields) continue;
    const hint = didYouMean(`${HEALTH_CHECK}${suffix}`, HEALTH_CHECK_KEYS) || ':';
    return refuse(suffix, `is not supported here${hint} accepted are ${HEALTH_CHECK_KEYS.join(', ')}`);
  }
  const [first] = suffixes;
  if (first === undefined) return;
  if (found[''] === undefined) return refuse(first, `has no effect without ${HEALTH_CHECK}, which is tcp or http`);
  const result = schema.safeParse(found, {
    error: (issue) => (issue.code === 'invalid_value' ? 'accepted are tcp and http' : undefined),
  });
  const [issue] = result.error?.issues ?? [];
  if (issue) return refuse(String(issue.path[0]), issue.message);
  const check = healthCheckOf(annotations)!;
  if (check.type === 'tcp' && found['-path'] !== undefined) refuse('-path', `is for ${HEALTH_CHECK}: http`);
  if (check.timeoutMs <= check.intervalMs) return;
  if (found['-timeout'] !== undefined) return refuse('-timeout', 'a timeout is no longer than the interval');
  const timeout = durationText(check.timeoutMs);
  refuse('-interval', `it is shorter than the timeout, ${timeout}: give a timeout that is not longer`);
}

/** True for an annotation that is read here. */
export function isAboutChecks(key: string): boolean {
  return key === HEALTH_CHECK || key.startsWith(`${HEALTH_CHECK}-`);
}

/** Those of the annotations that are about checks, by what follows the common part. */
function given(annotations: Annotations): Record<string, string> {
  return Object.fromEntries(
    Object.entries(annotations).flatMap(([key, value]) =>
      isAboutChecks(key) ? [[key.slice(HEALTH_CHECK.length), value]] : [],
    ),
  );
}
