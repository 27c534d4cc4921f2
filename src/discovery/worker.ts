/**
 * The thread that asks the host's name servers. It is started in the network namespace of the host, stays there, and gives up
 * its capabilities: it reads what comes from outside. It has clocks and random numbers of its own, and passes them on.
 */
import { randomInt } from 'node:crypto';
import { openSync, closeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { enterNetns } from '../addon/netns.ts';
import { NameServers } from './name-servers.ts';
import { askUpstreams, type UpstreamSurroundings } from './upstreams.ts';
import type { FromUpstreams, ToUpstreams } from './upstream-messages.ts';

const port = parentPort!;
const surroundings: UpstreamSurroundings = {
  after: (delayMs, work) => {
    const timeout = setTimeout(work, delayMs);
    return () => clearTimeout(timeout);
  },
  randomBelow: (limit) => randomInt(limit),
};

const own = openSync('/proc/thread-self/ns/net', 'r');
enterNetns(own);
closeSync(own);
port.on('message', (asked: ToUpstreams) => {
  void askUpstreams(asked, surroundings).then((message) => tell({ kind: 'answer', id: asked.id, message }));
});
new NameServers(surroundings.after, (addresses) => tell({ kind: 'servers', addresses }));

function tell(message: FromUpstreams): void {
  port.postMessage(message);
}
