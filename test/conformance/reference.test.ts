import { openReferenceDatapath } from '../../src/datapath/reference.ts';
import { runConformance } from './conformance.ts';
import { runSegmentation } from './segmentation.ts';

runConformance('reference', openReferenceDatapath);
runSegmentation('reference', openReferenceDatapath);
