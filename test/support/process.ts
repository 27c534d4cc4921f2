/** Commands and background processes of tests. Each is ended by its pid, and a failure shows what it printed. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

// Each start of Node.js would read all certificates of that file, for longer than weft takes to start; a service has none.
delete process.env['NODE_EXTRA_CA_CERTS'];

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** A minute by default. */
  readonly timeoutMs?: number;
  readonly input?: string;
}

/**
 * The pause between two looks is a part of the time waited so far, so that long waits leave the processors to others.
 */
const POLL = { part: 0.03, leastMs: 15, mostMs: 150 } as const;
/**
 * How long another process may take for something, on processors that others use, too. Only a failure takes this long.
 */
const PATIENCE_MS = 60_000;

/** Runs to the end, whatever the exit code; -1 if the timeout ended it. */
export function attempt(command: readonly string[], options: RunOptions = {}): Promise<Result> {
  const [file = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const limits = { timeout: options.timeoutMs ?? PATIENCE_MS, killSignal: 'SIGKILL', maxBuffer: 1 << 28 } as const;
    const child = execFile(file, args, limits, (error, stdout, stderr) => {
      const code = child.exitCode ?? -1;
      if (error && typeof error.code === 'string') reject(new Error(`${describe(command)}: ${error.message}`));
      else resolve({ code, stdout, stderr });
    });
    // A command may end without reading all of its input.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}

/** Runs a command that must succeed; returns its standard output. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await attempt(command, options);
  if (code !== 0) throw new Error(`${describe(command)}: exit ${code}\n${stderr}${stdout}`.trimEnd());
  return stdout;
}

/**
 * Polls until `condition` returns something truthy, which is the result; an error in it counts as "not yet".
 * @throws after a minute, unless `timeoutMs` is given
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: { readonly timeoutMs?: number; readonly what: string },
): Promise<NonNullable<T>> {
  const { timeoutMs = PATIENCE_MS, what } = options;
  const startedAt = performance.now();
  for (;;) {
    let last: unknown;
    try {
      const value = await condition();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error instanceof Error ? error.message : error;
    }
    const waitedMs = performance.now() - startedAt;
    if (waitedMs > timeoutMs) {
      throw new Error(`after ${timeoutMs} ms still not: ${what} (last: ${String(last)})`);
    }
    await delay(Math.min(Math.max(POLL.part * waitedMs, POLL.leastMs), POLL.mostMs));
  }
}

/** A line of output and the time when it came, in milliseconds of CLOCK_MONOTONIC. */
export interface Line {
  readonly text: string;
  readonly atMs: number;
}

/** Milliseconds of CLOCK_MONOTONIC, like Python's `time.monotonic()`. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** A process that runs beside the test. */
export class Background {
  readonly pid: number;
  /** Its exit code; null if a signal ended it. */
  readonly exited: Promise<number | null>;
  /** Complete lines of its standard output. */
  readonly lines: Line[] = [];
  stdout = '';
  stderr = '';
  readonly #command: readonly string[];
  readonly #child: ChildProcess;
  #isRunning = true;
  /** How it ended: `exit 1`, or `ended by SIGKILL`. */
  endText = 'still running';

  constructor(command: readonly string[], options: { readonly env?: NodeJS.ProcessEnv } = {}) {
    const [file = '', ...args] = command;
    this.#command = command;
    this.#child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    if (this.#child.pid === undefined) throw new Error(`${describe(command)}: could not be started`);
    this.pid = this.#child.pid;
    this.#child.stdin?.on('error', () => {});
    let rest = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      const atMs = monotonicMs();
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) this.lines.push({ text: part, atMs });
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.exited = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#isRunning = false;
        this.endText = signal === null ? `exit ${code}` : `ended by ${signal}`;
        resolve(code);
      });
    });
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Closes its standard input. */
  end(): void {
    this.#child.stdin?.end();
  }

  /** Sends a signal if it is still running. */
  signal(signal: NodeJS.Signals): void {
    if (this.#isRunning) this.#child.kill(signal);
  }

  /** Waits for its end. @throws if that does not come in time */
  async wait(timeoutMs = PATIENCE_MS): Promise<number | null> {
    const timer = new AbortController();
    const late = delay(timeoutMs, true, { signal: timer.signal }).catch(() => false);
    const isLate = await Promise.race([this.exited.then(() => false), late]);
    timer.abort();
    if (isLate) throw new Error(`after ${timeoutMs} ms still not: end of ${describe(this.#command)}\n${this.stderr}`);
    return this.exited;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.signal(signal);
    return this.wait();
  }

  /** Waits until its standard output or standard error contains `text`. */
  async says(text: string | RegExp): Promise<void> {
    const has = (output: string): boolean => (typeof text === 'string' ? output.includes(text) : text.test(output));
    await until(
      () => {
        if (has(this.stdout) || has(this.stderr)) return true;
        if (!this.#isRunning) throw new Error('it has ended');
        return false;
      },
      { what: `${String(text)} from ${describe(this.#command)}\n${this.stderr}${this.stdout}` },
    );
  }
}

/** True if all threads of the process are stopped, or it is gone. */
export function isStopped(pid: number): boolean {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.every((thread) =>
      /^\d+ \(.*\) [TZX]/s.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')),
    );
  } catch {
    return !isAlive(pid);
  }
}

/** Does the process exist (and is it more than a zombie)? */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

export function describe(command: readonly string[]): string {
  return command.map((word) => (/\s/.test(word) ? `'${word}'` : word)).join(' ');
}
