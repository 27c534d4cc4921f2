/** What is said of a change that waits to be confirmed. */
import type { ConfirmationReport } from './report.ts';

/** When it is taken back, unless that is being done. */
export function takenBackText({ host, until, byOthersAt }: NonNullable<ConfirmationReport['waiting']>): string {
  if (byOthersAt === undefined) return `is taken back at ${until}`;
  return `was to be taken back at ${until}, which host "${host}" has not done: another host takes it back at ${byOthersAt}`;
}
