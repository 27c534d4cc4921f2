/** The end of `await using`: it must not fail for what is gone already, since that would hide why the block has ended. */
import type { Client } from '../api/client.ts';
import { WeftError } from '../error.ts';

/**
 * Does `end`, unless the switch is closed, which has ended everything.
 * @throws what `end` throws, but for what does not exist any more
 */
export async function dispose(client: Client, end: () => Promise<void>): Promise<void> {
  if (client.isClosed) return;
  try {
    await end();
  } catch (error) {
    const isGone = error instanceof WeftError && error.code === 'not_found';
    if (!isGone && !client.isClosed) throw error;
  }
}
