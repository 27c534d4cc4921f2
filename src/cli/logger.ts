/** The log of the daemon: JSON lines on stderr. In a file of its own, so that only the daemon loads the library. */
import { pino, type Logger } from 'pino';
import { LogOutput, openStderr } from './log-output.ts';

export function openLogger(): Logger {
  const output = new LogOutput({
    fd: openStderr(),
    lostLine: (lines) => {
      const text = 'log lines were left out because their reader had stopped';
      return `${JSON.stringify({ level: 'warn', time: new Date().toISOString(), lines, msg: text })}\n`;
    },
  });
  process.once('exit', () => output.flush());
  return pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } },
    output,
  );
}
