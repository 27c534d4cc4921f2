/**
 * The check for masks that are too wide: it says nothing about a decision that reads through its view, and reports one
 * that does not.
 */
import t from 'tap';
import type { Action } from '../../src/flow/action.ts';
import { extract } from '../../src/flow/extract.ts';
import { fields } from '../../src/flow/fields.ts';
import { emptyKey, readNumber, type FlowKey } from '../../src/flow/key.ts';
import { FlowView } from '../../src/flow/view.ts';
import { output } from '../conformance/harness.ts';
import * as frames from '../support/frames.ts';
import { Random } from '../support/random.ts';
import { findWideMasks } from './wildcards.ts';

const seed = Number(process.env['WEFT_SEED'] ?? 1);
const key = emptyKey();
extract(frames.udp({}, 1234, 53), key);

function decide(key: FlowKey, honest: boolean): { actions: readonly Action[]; mask: Uint8Array } {
  const view = new FlowView(key);
  if (view.number('ip_proto') !== 17) return { actions: output(1), mask: view.mask };
  const port = honest ? view.number('l4_dst') : readNumber(key, fields.l4_dst);
  return { actions: output(port === 53 ? 2 : 3), mask: view.mask };
}

for (const honest of [true, false]) {
  t.test(honest ? 'a right mask' : 'a mask without a field that was read', async (t) => {
    const flows = [{ key, mask: decide(key, honest).mask }];
    const wide = findWideMasks({ flows, decide: (key) => decide(key, honest), random: new Random(seed) });
    if (honest) t.same(wide, []);
    else t.match(wide[0], 'another l4_dst');
  });
}
