/** Checks the state directory: whether it can be written. */
import { constants } from 'node:fs';
import { access, statfs } from 'node:fs/promises';
import type { CheckReport } from '../model/report.ts';

/** With less than this left, the next endpoint may find no room. */
const LEAST_BYTES = 1 << 20;
const HINT =
  'until that is mended, nothing can be attached, no change is kept while the store is away, and a restart finds what was kept before';

export async function checkState(directory: string): Promise<CheckReport> {
  const check = 'state';
  const failed = (detail: string): CheckReport => ({ check, result: 'failed', detail, hint: HINT });
  try {
    await access(directory, constants.W_OK);
    // Some file systems count neither. What is kept for root is there for weft, too.
    const { blocks, bfree, bsize, files, ffree } = await statfs(directory);
    const leftBytes = bfree * bsize;
    if (blocks > 0 && leftBytes < LEAST_BYTES)
      return failed(`${directory}: its file system is full, ${Math.floor(leftBytes / 1024)} KiB are left`);
    if (files > 0 && ffree === 0) return failed(`${directory}: its file system has no inodes left`);
    return { check, result: 'ok', detail: `${directory} can be written` };
  } catch (error) {
    return failed(`${directory} cannot be written: ${(error as Error).message}`);
  }
}
