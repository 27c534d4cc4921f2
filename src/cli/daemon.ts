/** What `weft up` runs, besides the command line; and how a datapath is loaded, for load-program.ts. */
export { datapathOpener } from '../datapath/open.ts';
export { runDaemon } from './run-daemon.ts';
