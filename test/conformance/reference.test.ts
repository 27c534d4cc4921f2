import { openReferenceDatapath } from '../../src/datapath/reference.ts';
import { runCoalescing } from './coalescing.ts';
import { runConformance } from './conformance.ts';
import { runEcn } from './ecn.ts';
import { runSegmentation } from './segmentation.ts';

runConformance('reference', openReferenceDatapath);
runSegmentation('reference', openReferenceDatapath);
runCoalescing('reference', openReferenceDatapath);
runEcn('reference', openReferenceDatapath);
