/**
 * Migrates state directories of earlier versions. There, hosts were stored without a record around them, names of
 * endpoints were unique across namespaces, and endpoint records also held what only concerns the host (`local`), which
 * is in `attachments/` now.
 */
import { DEFAULT_NAMESPACE } from '../model/resource.ts';
import type { Entry, Put, Transaction } from '../store/store.ts';

interface OldEndpoint {
  readonly resource: { readonly metadata: { readonly name: string; readonly namespace: string } };
  readonly local?: object;
}

/** The transaction that brings the store up to date; undefined if there is nothing to do. */
export function migration(entries: readonly Entry[]): Transaction | undefined {
  const put: Put[] = [];
  const moved: string[] = [];
  const namespaces = new Set([DEFAULT_NAMESPACE]);
  for (const { key, value } of entries) {
    const [plural, ...rest] = key.split('/');
    if (plural === 'endpoints' && rest.length === 1) {
      const { local, ...record } = value as OldEndpoint;
      const { namespace, name } = record.resource.metadata;
      namespaces.add(namespace);
      put.push({ key: `endpoints/${namespace}/${name}`, value: record });
      if (local) put.push({ key: `attachments/${namespace}/${name}`, value: local });
      moved.push(key);
    }
    if (plural === 'hosts' && !('resource' in Object(value))) put.push({ key, value: { resource: value } });
  }
  const records = new Map([...namespaces].map(namespaceRecord).map((record) => [record.key, record]));
  for (const { key } of entries) records.delete(key);
  put.push(...records.values());
  if (put.length === 0) return undefined;
  const expect = new Map([...put.map(({ key }) => key), ...moved].map((key) => [key, 0]));
  for (const { key, revision } of entries) if (expect.has(key)) expect.set(key, revision);
  return { expect: [...expect].map(([key, revision]) => ({ key, revision })), put, delete: moved };
}

/** What declares a namespace without labels. */
export function namespaceRecord(name: string): Put {
  const resource = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: {} }, spec: {} };
  return { key: `namespaces/${name}`, value: { resource } };
}
