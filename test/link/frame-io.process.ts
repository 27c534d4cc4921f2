/**
 * A process with a FrameIo, for tests that need one in another namespace or want to kill it. It
 * reads requests from standard input and writes replies and events, one JSON value on each line.
 */
import { createInterface } from 'node:readline';
import { FrameIo } from '../../src/datapath/reference/frame-io.ts';
import { parseIp, type PortNo } from '../../src/flow/types.ts';
import { WeftError } from '../../src/error.ts';

export type Request =
  | { readonly op: 'tap'; readonly port: number; readonly netns: string; readonly ifname: string }
  | { readonly op: 'underlay'; readonly port: number; readonly local: string; readonly l4Port: number }
  | { readonly op: 'remove'; readonly port: number; readonly keep: boolean }
  | { readonly op: 'send'; readonly remote: string; readonly entropy: number; readonly hex: string };

const say = (value: object): void => console.log(JSON.stringify(value));

const io = new FrameIo(
  () => {
    for (const { port, bytes, source } of io.take(1000)) {
      say({
        event: 'frame',
        port,
        hex: Buffer.from(bytes).toString('hex'),
        source: source && Buffer.from(source).toString('hex'),
      });
    }
  },
  (port, why) => say({ event: 'lost', port, why }),
);

function run(request: Request): object {
  switch (request.op) {
    case 'tap': {
      const { created } = io.addTap(request.port as PortNo, request);
      return { created };
    }
    case 'underlay':
      io.openUnderlay(request.port as PortNo, parseIp(request.local), request.l4Port);
      return {};
    case 'remove':
      io.remove(request.port as PortNo, request.keep);
      return {};
    case 'send': {
      const payload = Buffer.from(request.hex, 'hex');
      return { reason: io.sendUnderlay(parseIp(request.remote), request.entropy, 0, [payload])?.reason ?? null };
    }
    default:
      return request satisfies never;
  }
}

const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  try {
    say({ reply: run(JSON.parse(line) as Request) });
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    say({ error: { code: error.code, message: error.message } });
  }
});
input.on('close', () => io.close());
