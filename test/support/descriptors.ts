/** How many descriptors this process has open, to see that none is left. */
import { readdirSync, readlinkSync } from 'node:fs';

/** Other threads load modules meanwhile: files are not counted, but for those in `/dev`. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').filter((descriptor) => {
    try {
      const place = readlinkSync(`/proc/self/fd/${descriptor}`);
      return !place.startsWith('/') || place.startsWith('/dev/');
    } catch {
      // It was the one that has just read the directory.
      return false;
    }
  }).length;
}
