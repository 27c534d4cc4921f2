import { openNativeDatapath } from '../../src/datapath/native.ts';
import { runConformance } from './conformance.ts';

runConformance('native', (options) => openNativeDatapath({ ...options, threads: 0 }));
