/** Shared by the conformance suites. */
import t, { type Test } from 'tap';
import { Harness, type HarnessOptions, type Open } from './harness.ts';

/** Tests of a suite: each has a datapath of its own, and the law of conservation must hold when it ends. */
export function conformanceTests(name: string, open: Open) {
  return (title: string, body: (t: Test, h: Harness) => void, options?: HarnessOptions) =>
    t.test(`${name}: ${title}`, async (t) => {
      const h = new Harness(open, options);
      try {
        body(t, h);
        h.close();
      } finally {
        h.dp.close();
      }
    });
}
