#!/usr/bin/env node
/** The executable. */
import { loadProgram } from './load-program.ts';

await loadProgram().program.main(process.argv);
