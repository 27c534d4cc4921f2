/** The load tool. */
import { compiled } from '../../test/support/compiled.ts';

export const loadTool = compiled('bench/load/load.cc', 'bench/load');
