/** The names by which rules mean a Service: `reviews` in their own namespace, or `reviews.shop.svc.cluster.local`. */
import * as z from 'zod';
import { isAddress } from './address.ts';
import { name, quote } from './value.ts';

export const CLUSTER_DOMAIN = 'cluster.local';
const SUFFIX = `.svc.${CLUSTER_DOMAIN}`;

/** As it was written, without a dot at the end. */
export const serviceHost = z.string().transform((text, context) => {
  const host = text.endsWith('.') ? text.slice(0, -1) : text;
  const why = whyNot(host);
  if (why === undefined) return host;
  context.addIssue({
    code: 'custom',
    message: `${quote(text)} ${why}: a Service of the cluster is accepted, as NAME or NAME.NAMESPACE${SUFFIX}`,
  });
  return z.NEVER;
});

function whyNot(host: string): string | undefined {
  if (host.includes('*')) return 'is a pattern';
  if (isAddress(host)) return 'is an address';
  const [own = '', namespace, ...rest] = host.split('.');
  const isFull = host.endsWith(SUFFIX) && rest.length === SUFFIX.split('.').length - 1;
  if (namespace !== undefined && !isFull) return 'is not a name of a Service';
  const parts = namespace === undefined ? [own] : [own, namespace];
  return parts.every((part) => name.safeParse(part).success) ? undefined : 'is not a name of a Service';
}

/** The Service that a validated host means. @param namespace that of the rule */
export function serviceOf(host: string, namespace: string): { readonly name: string; readonly namespace: string } {
  const [own = '', of = namespace] = host.split('.');
  return { name: own, namespace: of };
}
