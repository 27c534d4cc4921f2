import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { runCoalescing } from './coalescing.ts';
import { runConformance } from './conformance.ts';
import { runRates } from './rates.ts';
import { runMirror } from './mirror.ts';
import { runRewriting } from './rewriting.ts';
import { runFragments } from './fragments.ts';
import { runEcn } from './ecn.ts';
import { runSegmentation } from './segmentation.ts';

runConformance('reference', openReferenceDatapath);
runSegmentation('reference', openReferenceDatapath);
runCoalescing('reference', openReferenceDatapath);
runRates('reference', openReferenceDatapath);
runMirror('reference', openReferenceDatapath);
runRewriting('reference', openReferenceDatapath);
runFragments('reference', openReferenceDatapath);
runEcn('reference', openReferenceDatapath);
