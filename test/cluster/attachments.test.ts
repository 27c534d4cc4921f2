/** Which namespaces count as gone when an endpoint's interface is not where it was. A release is for good. */
import { constants } from 'node:os';
import t from 'tap';
import { Attachments, type AttachmentsEnvironment } from '../../src/cluster/attachments.ts';
import type { LocalEndpoint } from '../../src/cluster/endpoint.ts';

const { EMFILE, ENOENT, ENOMEM } = constants.errno;

/** Whether the namespace of an endpoint is gone that was found under another path, where the kernel answers this. */
async function isGone(stored: string | undefined, answer: { result: number; cookie: bigint }): Promise<boolean> {
  const attachments = new Attachments({
    exchange: async (all) => all.map(() => ({ ...answer, settings: [], replies: new Uint8Array() })),
  } as Partial<AttachmentsEnvironment> as AttachmentsEnvironment);
  const netns = { path: '/run/netns/web', dev: 4n, ino: 7n };
  const endpoint = { name: 'web', local: { netns: { ...netns, cookie: stored } } } as unknown as LocalEndpoint;
  return (await attachments.gone([{ endpoint, netns: { ...netns, path: '/proc/7/ns/net' } }])).has('web');
}

t.test('a namespace that was found elsewhere by its number', async (t) => {
  t.equal(await isGone('5', { result: 0, cookie: 5n }), false, 'is the same one');
  t.equal(await isGone('5', { result: 0, cookie: 6n }), true, 'is another one');
  t.equal(await isGone(undefined, { result: 0, cookie: 5n }), true, 'is another one as far as anybody knows');
  t.equal(await isGone('5', { result: 0, cookie: 0n }), true, 'and so with a kernel without such names');
});

t.test('one that cannot be read just now is not gone', async (t) => {
  for (const errno of [EMFILE, ENOMEM]) t.equal(await isGone('5', { result: -errno, cookie: 0n }), false);
  t.equal(await isGone('5', { result: -ENOENT, cookie: 0n }), true, 'but one that does not exist is');
});
