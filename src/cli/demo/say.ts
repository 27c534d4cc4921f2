import { colours, write } from '../print.ts';

/** A line of progress: seconds since the start, and what happens now. */
export async function say(text: string): Promise<void> {
  const paint = await colours();
  const seconds = process.uptime().toFixed(1).padStart(5);
  await write(`${paint('dim', `${seconds} s`)}  ${text}\n`);
}
