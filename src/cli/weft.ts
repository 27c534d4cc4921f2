#!/usr/bin/env node
/** The executable. */
import { loadProgram } from './load-program.ts';

void loadProgram().program.main(process.argv);
