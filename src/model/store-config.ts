/** Where the state is kept, as an operator writes it: `embedded`, `etcd://10.0.0.1:2379,10.0.0.2:2379`, or a map of fields. */
import * as z from 'zod';
import { ipAddress, quote } from './value.ts';

export interface EtcdConfig {
  /** Each as `10.0.0.1:2379`, `[fd00::1]:2379` or `etcd-1.example:2379`. */
  readonly endpoints: readonly string[];
  /** All keys begin with it. */
  readonly prefix: string;
  readonly user?: { readonly name: string; readonly passwordFile: string };
  /** Present if connections are encrypted. Paths of PEM files. */
  readonly tls?: {
    readonly ca?: string | undefined;
    readonly certificate?: string | undefined;
    readonly key?: string | undefined;
  };
}

export type StoreConfig = 'embedded' | EtcdConfig;

const PREFIX = 'weft/';
const SCHEME = 'etcd://';
const FORM = 'a host and a port, like 10.0.0.1:2379, "[fd00::1]:2379" or etcd-1.example:2379';
const NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;

const endpoint = z.string(`${FORM}, is expected`).transform((text, context) => {
  const made = endpointOf(text);
  if (made !== undefined) return made;
  context.addIssue({ code: 'custom', message: `${quote(text)} is not ${FORM}` });
  return z.NEVER;
});

const endpoints = z
  .array(endpoint)
  .min(1, 'at least one is expected')
  .superRefine((all, context) => {
    const at = all.findIndex((one, index) => all.indexOf(one) < index);
    if (at >= 0) context.addIssue({ code: 'custom', path: [at], message: `${quote(all[at]!)} is given twice` });
  });

/** `embedded`, or `etcd://` with endpoints: the value of `--store`. */
export const storeText = z.string().transform((text, context): 'embedded' | readonly string[] => {
  if (text === 'embedded') return text;
  if (!text.startsWith(SCHEME)) {
    const message = `accepted are "embedded" and the members of an etcd cluster, like ${SCHEME}10.0.0.1:2379,10.0.0.2:2379`;
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  }
  const parsed = endpoints.safeParse(text.slice(SCHEME.length).replace(/\/$/, '').split(','));
  if (parsed.success) return parsed.data;
  context.addIssue({ code: 'custom', message: parsed.error.issues[0]!.message });
  return z.NEVER;
});

const file = z.string().regex(/^\/[^\0]*$/, 'the absolute path of a file is expected');
/** What a cluster has below its prefix (`stores.ts`). Another cluster may be there, too, but not in one of these. */
const OWN_PART = /\/(?:state|applied|questions)\//;
const OWN_PARTS =
  '"state", "applied" and "questions" are where another cluster would have its own keys: choose another name';
const withKey = 'certificate and key go together: both or none';

const etcd = z
  .strictObject({
    endpoints,
    /** Several clusters of weft can share one of etcd. */
    prefix: z
      .string()
      .regex(/^[\w./-]{0,200}\/$/, 'letters, digits, "-", "_", "." and "/" are expected, with "/" at the end')
      .refine((prefix) => !OWN_PART.test(prefix), OWN_PARTS)
      .optional(),
    user: z.string().min(1, 'the name of a user is expected').optional(),
    /** Its first line is the password. */
    passwordFile: file.optional(),
    tls: z
      .strictObject({ ca: file.optional(), certificate: file.optional(), key: file.optional() })
      .refine((tls) => (tls.certificate === undefined) === (tls.key === undefined), withKey)
      .optional(),
  })
  .refine(
    ({ user, passwordFile }) => (user === undefined) === (passwordFile === undefined),
    'user and passwordFile go together: both or none',
  );

const fields = etcd.transform(
  ({ user, passwordFile, tls, prefix, endpoints: members }): EtcdConfig => ({
    endpoints: members,
    prefix: prefix ?? PREFIX,
    ...(user !== undefined && passwordFile !== undefined && { user: { name: user, passwordFile } }),
    ...(tls && { tls }),
  }),
);

/** The field `store` of the configuration. */
export const storeField = z.union([storeText.transform((text): StoreConfig => storeOf(text)), fields], {
  error: `accepted are "embedded", ${SCHEME} with the members of an etcd cluster, and a map with its endpoints`,
});

/** As `--store` takes it. */
export function storeName(store: StoreConfig): string {
  return store === 'embedded' ? store : `${SCHEME}${store.endpoints.join(',')}`;
}

/** As `weft status` shows it: with the prefix, which not all clusters have alike. */
export function placeName(store: 'embedded' | Pick<EtcdConfig, 'endpoints' | 'prefix'>): string {
  return store === 'embedded' ? store : `${SCHEME}${store.endpoints.join(',')}, prefix ${store.prefix}`;
}

/** The address of a member on another machine; undefined if there is none, or only its name is known. */
export function memberAddress(store: StoreConfig): string | undefined {
  if (store === 'embedded') return undefined;
  const addresses = store.endpoints.map((member) => member.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
  return addresses.find((text) => /^[\d.]+$|:/.test(text) && !text.startsWith('127.') && text !== '::1');
}

/** @param file what the configuration says besides the endpoints */
export function storeOf(text: 'embedded' | readonly string[], file?: StoreConfig): StoreConfig {
  if (text === 'embedded') return text;
  return { ...(typeof file === 'object' ? file : { prefix: PREFIX }), endpoints: text };
}

function endpointOf(text: string): string | undefined {
  const [, bracketed, plain = '', port = ''] = /^(?:\[([^\]]+)\]|([^:[\]]+)):([1-9]\d{0,4})$/.exec(text) ?? [];
  if (port === '' || Number(port) > 65_535) return undefined;
  if (bracketed !== undefined) {
    const address = ipAddress.safeParse(bracketed);
    return address.success && address.data.includes(':') ? `[${address.data}]:${port}` : undefined;
  }
  const isAddress = /^[\d.]+$/.test(plain);
  const isValid = isAddress ? ipAddress.safeParse(plain).success : NAME.test(plain);
  return isValid ? `${plain}:${port}` : undefined;
}
