/** Filter expressions of pcap-filter(7), compiled by libpcap: tcpdump prints the program. */
import { spawn } from 'node:child_process';
import type { CaptureOptions } from '../api/target.ts';
import { WeftError } from '../error.ts';

/** @throws WeftError `usage` with libpcap's own words, `system` if tcpdump is missing */
export async function compileFilter(expression: string): Promise<NonNullable<CaptureOptions['filter']>> {
  const [count, ...lines] = (await tcpdump(['-ddd', '-y', 'EN10MB', '--', expression], expression)).trim().split('\n');
  if (Number(count) !== lines.length)
    throw new WeftError('system', `tcpdump -ddd printed something else than a program`);
  return lines.map((line) => {
    const [code = 0, jumpTrue = 0, jumpFalse = 0, k = 0] = line.split(' ').map(Number);
    return { code, jumpTrue, jumpFalse, k };
  });
}

function tcpdump(args: readonly string[], expression: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('tcpdump', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        new WeftError(
          'system',
          error.code === 'ENOENT'
            ? 'a filter is compiled by tcpdump, which is not installed: `apt install tcpdump`, or leave the filter out'
            : `tcpdump could not be started (${error.code})`,
        ),
      ),
    );
    child.on('close', (code) => {
      const why =
        stderr
          .trim()
          .split('\n')
          .at(-1)
          ?.replace(/^tcpdump: /, '') ?? '';
      if (code === 0) resolve(stdout);
      else reject(new WeftError('usage', `filter "${expression}": ${why} (see pcap-filter(7))`));
    });
  });
}
