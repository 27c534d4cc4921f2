import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { runBalancing } from './balancing.ts';
import { runConnections } from './connections.ts';
import { runCoalescing } from './coalescing.ts';
import { runConformance } from './conformance.ts';
import { runFragments } from './fragments.ts';
import type { Open } from './harness.ts';
import { runParking } from './parking.ts';
import { runRates } from './rates.ts';
import { runLiveness } from './liveness.ts';
import { runMirror } from './mirror.ts';
import { runRefusing } from './refusing.ts';
import { runRewriting } from './rewriting.ts';
import { runRoom } from './room.ts';
import { runEcn } from './ecn.ts';
import { runSegmentation } from './segmentation.ts';
import { runSockets } from './sockets.ts';
import { runTracked } from './tracked.ts';

const open: Open = (options) => openNativeDatapath({ ...options, threads: 0 });

runConformance('native', open);
runParking('native', open);
runConnections('native', open);
runTracked('native', open);
runRoom('native', open);
runBalancing('native', open);
runSegmentation('native', open);
runCoalescing('native', open);
runRates('native', open);
runSockets('native', open);
runLiveness('native', open);
runMirror('native', open);
runRewriting('native', open);
runRefusing('native', open);
runFragments('native', open);
// All fragments of a datagram come to the same worker.
runFragments('three native workers', (options) => openNativeDatapath({ ...options, threads: 0, workers: 3 }));
runEcn('native', open);
