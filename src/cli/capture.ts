/** `weft capture`: frames at the ports, as lines like tcpdump's or as a pcapng file. */
import type { Command } from 'commander';
import type { CapturedFrame } from '../api/target.ts';
import type { CaptureReport } from '../model/report.ts';
import { untilInterrupted } from './interrupt.ts';
import { clientOf, count, globals, verb, type OutputFormat } from './verb.ts';

interface Options {
  readonly port?: string;
  readonly write?: string;
  readonly count?: number;
}

/** Takes the frames and is closed at the end, in every case. */
interface Sink {
  frame(frame: CapturedFrame): Promise<void>;
  close(): Promise<void>;
}

/** Whole superframes in a file; for a line the headers do. */
const FILE_SNAP_BYTES = 262_144;
const LINE_SNAP_BYTES = 512;

export function capture(program: Command): void {
  verb(program, 'capture', {
    summary: 'show or save the frames at the ports, until Ctrl-C',
    examples: [
      'weft capture',
      'weft capture --port web --count 10',
      'weft capture -w web.pcapng --port web',
      'weft capture -w - | tcpdump -r -',
    ],
  })
    .option('--port <name>', 'only this port (default: all)')
    .option('-w, --write <file>', 'write pcapng to FILE, or to stdout with -')
    .option('--count <n>', 'end after N frames', count(1))
    .action(async (options: Options, command: Command) => {
      const snapBytes = options.write === undefined ? LINE_SNAP_BYTES : FILE_SNAP_BYTES;
      const { port, write: path } = options;
      const client = clientOf(command);
      const controller = untilInterrupted();
      const events = client.capture({ snapBytes, ...(port !== undefined && { port }) }, controller.signal);

      let captured = 0;
      let lost = 0;
      let sink: Sink | undefined;
      try {
        for await (const event of events) {
          switch (event.kind) {
            case 'open':
              // Only now: a capture that is refused leaves no file behind.
              sink = path === undefined ? await lines(globals(command).output) : await file(path, snapBytes);
              process.stderr.write(`listening on ${port ?? 'all ports'}, up to ${snapBytes} bytes of a frame\n`);
              break;
            case 'item':
              await sink!.frame(event.item);
              captured++;
              break;
            case 'lost':
              lost += event.count;
              break;
            default:
              event satisfies never;
          }
          if (captured === options.count) break;
        }
      } finally {
        await sink?.close();
        if (sink)
          process.stderr.write(`${captured} frames captured\n${lost} frames left out: the reader was too slow\n`);
      }
    });
}

async function lines(output: OutputFormat): Promise<Sink> {
  const [{ printOne }, { summary }] = await Promise.all([import('./print.ts'), import('../wire/summary.ts')]);
  return {
    frame({ port, direction, timeNs, lengthBytes, bytes }) {
      const report: CaptureReport = {
        time: timeText(timeNs),
        port,
        direction,
        lengthBytes,
        summary: summary(bytes, lengthBytes),
      };
      return printOne(output, report, () => {
        return `${report.time.slice(11, 26)} ${port} ${direction === 'rx' ? 'in ' : 'out'} ${report.summary}\n`;
      });
    },
    close: async () => {},
  };
}

async function file(path: string, snapBytes: number): Promise<Sink> {
  const [{ open }, { Pcapng }, { write }, { version }, { WeftError }] = await Promise.all([
    import('node:fs/promises'),
    import('../observe/pcapng.ts'),
    import('./print.ts'),
    import('../package.ts'),
    import('../error.ts'),
  ]);
  const pcapng = new Pcapng(snapBytes);
  const failed = (error: unknown): never => {
    throw new WeftError('system', `-w ${path}: ${(error as Error).message}`, { cause: error });
  };
  const handle = path === '-' ? undefined : await open(path, 'w').catch(failed);
  const put = async (bytes: Uint8Array): Promise<void> => {
    if (handle === undefined) await write(bytes);
    else await handle.appendFile(bytes).catch(failed);
  };
  await put(pcapng.header(`weft ${version}`));
  return {
    frame: (frame) => put(pcapng.frame(frame)),
    close: async () => handle?.close(),
  };
}

/** RFC 3339 with nanoseconds. */
function timeText(timeNs: bigint): string {
  const seconds = new Date(Number(timeNs / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(timeNs % 1_000_000_000n).padStart(9, '0')}Z`;
}
