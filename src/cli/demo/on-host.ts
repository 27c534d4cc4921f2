/** Commands of weft on a host of the demonstration. */
import { colours, write } from '../print.ts';
import { run } from './commands.ts';
import type { Host } from './plan.ts';
import * as stage from './stage.ts';

/** Runs this executable against the daemon of a host. */
export function weft(host: Host, words: readonly string[], signal: AbortSignal): Promise<string> {
  return run([...stage.weft, '--socket', stage.socketOf(host), ...words], signal);
}

/** The same, and shows what it prints. */
export async function show(host: Host, words: readonly string[], title: string, signal: AbortSignal): Promise<void> {
  const paint = await colours();
  await write(`\n${paint('bold', `$ ${title}`)}\n${indent(await weft(host, words, signal))}\n`);
}

/** The same as a shell command for people. */
export function onHost(host: Host, words: string): string {
  return `$weft --socket ${stage.socketOf(host)} ${words}`;
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^(?=.)/gm, '  ');
}
