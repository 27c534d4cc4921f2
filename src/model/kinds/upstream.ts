/** What the kinds of Kubernetes have in common: their names, their metadata, and the protocols of their ports. */
import * as z from 'zod';
import { annotations } from '../annotations.ts';
import { foreignObject } from './foreign.ts';
import { DEFAULT_NAMESPACE } from '../name.ts';
import { label, labelKey, name, quote } from '../value.ts';

const BY_SERVER = 'an API server writes it, leave it out';
const BY_CONTROLLER = 'it is for the controllers of Kubernetes, leave it out';

/** The protocols of ports. SCTP is one of Kubernetes. */
export const portProtocol = z
  .enum(['TCP', 'UDP'], {
    error: ({ input }) => (input === 'SCTP' ? 'weft does not carry SCTP: accepted are "TCP", "UDP"' : undefined),
  })
  .default('TCP');

/** A label of DNS (RFC 1123), which the name of a port or of a backend is. */
export const dnsLabel = name;

const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** RFC 1123: labels with dots between them. */
export const dnsSubdomain = z
  .string()
  .refine(
    (text) => text.length <= 253 && DNS_SUBDOMAIN.test(text) && text.split('.').every((part) => part.length <= 63),
    {
      error: ({ input }) =>
        `${quote(String(input))} is not a DNS subdomain: at most 253 lower-case letters, digits, "-" and ".", each part with a letter or digit at both ends`,
    },
  );

/** RFC 1035: as the name of a Service is the name of a host, it begins with a letter. */
export const serviceName = z.string().regex(/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/, {
  error: ({ input }) =>
    `${quote(String(input))} is not a name of a Service: 1 to 63 lower-case letters, digits and "-", a letter first, and a letter or digit last`,
});

const refusedMetadata = {
  generateName: 'weft makes up no names, give it one',
  creationTimestamp: BY_SERVER,
  deletionGracePeriodSeconds: BY_SERVER,
  deletionTimestamp: BY_SERVER,
  generation: BY_SERVER,
  managedFields: BY_SERVER,
  resourceVersion: BY_SERVER,
  selfLink: BY_SERVER,
  uid: BY_SERVER,
  finalizers: BY_CONTROLLER,
  ownerReferences: BY_CONTROLLER,
};

const labels = z.record(labelKey, label).default({});

/** The metadata of a namespaced kind. @param own the schema of its name */
export const upstreamMetadata = <N extends z.ZodType<string>>(own: N) =>
  foreignObject({ name: own, namespace: name.default(DEFAULT_NAMESPACE), labels, annotations }, refusedMetadata);

/** The metadata of a kind whose names are unique in the cluster. @param own the schema of its name */
export const clusterMetadata = <N extends z.ZodType<string>>(own: N) =>
  foreignObject(
    { name: own, labels, annotations },
    { ...refusedMetadata, namespace: 'its name is unique in the cluster' },
  );
