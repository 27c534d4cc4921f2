/** What `weft up` runs, besides the command line; and what load-program.ts runs of it at the build. */
export { rehearse } from './rehearsal.ts';
export { runDaemon } from './run-daemon.ts';
