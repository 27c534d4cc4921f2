/**
 * Plays the new daemon of a takeover, step by step: each line on standard input is one, and each is answered by a line.
 *
 *   offer   asks the running daemon over its API, and is connected to it
 *   go      asks it to let go
 *   all     waits until it has passed everything on; answers with the names of what came
 *   forward says that it forwards, and waits until the old daemon has ended
 */
import { mkdtempSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { acceptPackets, listenPackets, type PacketConnection } from '../../src/addon/passing.ts';
import { Client } from '../../src/api/client.ts';
import { connectionFileHeader } from '../../src/flow/connection.ts';
import { messageOf, TAKEOVER_FORMAT, textOf } from '../../src/handover/request.ts';

const [socket = '', state = '', host = '', ...changed] = process.argv.slice(2);
let connection: PacketConnection | undefined;

async function offer(): Promise<string> {
  const at = join(mkdtempSync(join(dirname(socket), '.play-')), 't');
  const listener = listenPackets(at);
  const place = {
    host,
    state: realpathSync(state),
    connections: Buffer.from(connectionFileHeader()).toString('hex'),
  };
  const request = {
    format: TAKEOVER_FORMAT,
    version: 'played',
    at,
    place,
    ...(JSON.parse(changed[0] ?? '{}') as object),
  };
  const { pid } = await new Client(socket).takeover(request);
  connection = acceptPackets(listener);
  return String(pid);
}

function all(): string {
  const names: string[] = [];
  for (;;) {
    const message = connection!.receive(10_000);
    if (!message) return 'nothing came';
    const said = messageOf(message.bytes);
    if (said.say === 'all') return names.join(' ');
    if (said.say === 'descriptors') names.push(said.name);
  }
}

function forward(): string {
  connection!.send(textOf({ say: 'forwarding' }));
  try {
    for (;;) {
      const message = connection!.receive(10_000);
      if (!message) return 'it has not ended';
      const said = messageOf(message.bytes);
      if (said.say === 'stop') return `stop ${said.purge ? 'and purge' : ''}`;
    }
  } catch {
    return 'it has ended';
  }
}

async function step(name: string): Promise<string> {
  switch (name) {
    case 'offer':
      return offer();
    case 'go':
      connection!.send(textOf({ say: 'go' }));
      return 'said';
    case 'all':
      return all();
    case 'forward':
      return forward();
    default:
      return 'unknown';
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(`${line}: ${await step(line).catch((error: Error) => `failed: ${error.message}`)}`);
}
