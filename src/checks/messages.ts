/** What the checks of backends and the thread that makes them tell each other. */
import type { CheckTarget } from '../health/checker.ts';

/** To the thread: this is checked from now on, or not any more. */
export type CheckChange =
  | { readonly kind: 'set'; readonly target: CheckTarget }
  | { readonly kind: 'remove'; readonly id: string };

/** From the thread: a backend has become healthy, or unhealthy and why, or is so for another reason. */
export interface CheckResult {
  /** That of the target. */
  readonly id: string;
  /** In a few words; undefined if it is healthy. */
  readonly why: string | undefined;
}
