/** `weft capture`: frames at the ports, as lines like tcpdump's or as a pcapng file. */
import type { Command } from 'commander';
import type { CaptureReport } from '../model/report.ts';
import { untilInterrupted } from './interrupt.ts';
import { clientOf, count, globals, verb, type OutputFormat } from './verb.ts';

interface Options {
  readonly port?: string;
  readonly write?: string;
  readonly count?: number;
  readonly snaplen?: number;
}

/** Takes whole blocks of a pcapng file. It is always closed at the end. */
interface Sink {
  /** The blocks contain `total` frames, of which the first `frames` are wanted. @returns how many were taken */
  blocks(blocks: Buffer, total: number, frames: number): Promise<number>;
  close(): Promise<void>;
}

/** More than any frame has; tcpdump's own limit. */
const MOST_SNAP_BYTES = 262_144;
/** Whole frames in a file; the headers are enough for a line. */
const FILE_SNAP_BYTES = MOST_SNAP_BYTES;
const LINE_SNAP_BYTES = 512;

export function capture(program: Command): void {
  verb(program, 'capture [filter...]', {
    summary: 'show or save the frames at the ports, until Ctrl-C',
    examples: [
      'weft capture',
      'weft capture --port web --count 10 tcp port 80',
      'weft capture -w web.pcapng --port web --snaplen 128',
      "weft capture -w - 'host 10.0.0.3 and not arp' | tcpdump -r -",
    ],
  })
    .option('--port <name>', 'only this port (default: all)')
    .option('-w, --write <file>', 'write pcapng to FILE, or to stdout with -')
    .option('--count <n>', 'end after N frames', count(1))
    .option(
      '--snaplen <bytes>',
      'bytes of each frame that are kept, 64 to 262144 (default: all in a file)',
      count(64, MOST_SNAP_BYTES),
    )
    .addHelpText(
      'after',
      '\nFILTER is an expression of pcap-filter(7), as of tcpdump, which has to be installed for it.',
    )
    .action(async (filter: string[], options: Options, command: Command) => {
      const { port, write: path, snaplen } = options;
      const snapBytes = snaplen ?? (path === undefined ? LINE_SNAP_BYTES : FILE_SNAP_BYTES);
      const client = clientOf(command);
      const program =
        filter.length > 0 ? await (await import('./filter.ts')).compileFilter(filter.join(' ')) : undefined;
      const controller = untilInterrupted();
      const request = { snapBytes, ...(port !== undefined && { port }), ...(program && { filter: program }) };

      let captured = 0;
      let lost = 0;
      let sink: Sink | undefined;
      try {
        for await (const event of client.capture(request, controller.signal)) {
          switch (event.kind) {
            case 'blocks':
              if (!sink) {
                // Only now, so that a refused capture leaves no file behind.
                sink = path === undefined ? await lines(globals(command).output) : await file(path);
                process.stderr.write(`listening on ${port ?? 'all ports'}, up to ${snapBytes} bytes of a frame\n`);
              }
              captured += await sink.blocks(event.blocks, event.frames, (options.count ?? Infinity) - captured);
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
          process.stderr.write(
            `${captured} frames captured\n${lost} frames left out${lost > 0 ? ': they came faster than they could be written' : ''}\n`,
          );
      }
    });
}

async function lines(output: OutputFormat): Promise<Sink> {
  const [{ printOne }, { summary }, { PcapngReader }] = await Promise.all([
    import('./print.ts'),
    import('../wire/summary.ts'),
    import('../observe/pcapng.ts'),
  ]);
  const reader = new PcapngReader();
  return {
    async blocks(blocks, _, frames) {
      let printed = 0;
      for (const { port, direction, timeNs, lengthBytes, bytes } of reader.read(blocks)) {
        if (printed === frames) break;
        printed++;
        const report: CaptureReport = {
          time: timeText(timeNs),
          port,
          direction,
          lengthBytes,
          summary: summary(bytes, lengthBytes),
        };
        await printOne(output, report, () => {
          return `${report.time.slice(11, 26)} ${port} ${direction === 'rx' ? 'in ' : 'out'} ${report.summary}\n`;
        });
      }
      return printed;
    },
    close: async () => {},
  };
}

/** Blocks are written as they come; only the last ones are examined, for how many of their frames are wanted. */
async function file(path: string): Promise<Sink> {
  const [{ open }, { PcapngReader }, { write }, { WeftError }] = await Promise.all([
    import('node:fs/promises'),
    import('../observe/pcapng.ts'),
    import('./print.ts'),
    import('../error.ts'),
  ]);
  const failed = (error: unknown): never => {
    throw new WeftError('system', `-w ${path}: ${(error as Error).message}`, { cause: error });
  };
  const endOf = (blocks: Buffer, frames: number): number => {
    let seen = 0;
    for (const { endOffset } of new PcapngReader().read(blocks)) if (++seen === frames) return endOffset;
    return 0;
  };
  const handle = path === '-' ? undefined : await open(path, 'w').catch(failed);
  return {
    async blocks(blocks, total, frames) {
      const wanted = frames < total ? blocks.subarray(0, endOf(blocks, frames)) : blocks;
      if (handle === undefined) await write(wanted);
      else await handle.appendFile(wanted).catch(failed);
      return Math.min(total, frames);
    },
    close: async () => handle?.close(),
  };
}

/** RFC 3339 with nanoseconds. */
function timeText(timeNs: bigint): string {
  const seconds = new Date(Number(timeNs / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(timeNs % 1_000_000_000n).padStart(9, '0')}Z`;
}
