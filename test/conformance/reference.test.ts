import { openReferenceDatapath } from '../../src/datapath/reference.ts';
import { runConformance } from './conformance.ts';

runConformance('reference', openReferenceDatapath);
