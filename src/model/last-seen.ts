/** When something was last seen that is told of although it may be over. */

/** What comes again within that time goes on. */
const GOES_ON_MS = 3000;

export function goesOn(agoMs: number): boolean {
  return agoMs < GOES_ON_MS;
}

/** ` (last 40 s ago)`; nothing as long as it goes on. */
export function lastSeenText(agoMs: number): string {
  if (goesOn(agoMs)) return '';
  const seconds = Math.round(agoMs / 1000);
  return ` (last ${seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`} ago)`;
}
