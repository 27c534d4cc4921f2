/** The log of the daemon: JSON lines on stderr. Apart, so that only the daemon loads the library. */
import { pino, type Logger } from 'pino';

export function openLogger(): Logger {
  return pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } },
    pino.destination({ fd: 2, sync: true }),
  );
}
