import { openNativeDatapath } from '../../src/datapath/native.ts';
import { runCoalescing } from './coalescing.ts';
import { runConformance } from './conformance.ts';
import type { Open } from './harness.ts';
import { runEcn } from './ecn.ts';
import { runSegmentation } from './segmentation.ts';

const open: Open = (options) => openNativeDatapath({ ...options, threads: 0 });

runConformance('native', open);
runSegmentation('native', open);
runCoalescing('native', open);
runEcn('native', open);
