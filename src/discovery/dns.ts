/** The DNS server, as the switch sees it: where it listens, its code, and what it is told. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../package.ts';
import type { ServerSpec } from '../internal/server.ts';
import type { ZoneFeed } from './feed.ts';

const DNS_L4_PORT = 53;

/** The code of the server: a bundle of its own, or the source where TypeScript is loaded as it is. */
const MODULE = import.meta.url.endsWith('.ts')
  ? new URL('server.ts', import.meta.url)
  : pathToFileURL(join(packageRoot, 'dist/discovery/server.js'));

export function dnsServer(feed: ZoneFeed): ServerSpec {
  const listening = (['UDP', 'TCP'] as const).map((protocol) => ({ protocol, l4Port: DNS_L4_PORT }));
  return { listening, module: MODULE.href, feed };
}
