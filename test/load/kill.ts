/** Kills: what a connection and a probe notice when a daemon dies and is started again. */
import { killAndRestart } from '../support/restart.ts';
import { Lab } from '../support/lab.ts';
import { oneHost } from '../support/topology.ts';
import { ping } from '../support/traffic.ts';
import { datapathKinds } from '../support/weft.ts';
import type { Scenario } from './scenario.ts';

const TIMES = 20;
const promises = { medianMs: 350, mostMs: 700 } as const;

export const kills: readonly Scenario[] = datapathKinds.map((datapath) => ({
  name: `kill/${datapath}`,
  run: async (report) => {
    const lab = new Lab();
    try {
      const { weft, web, db } = await oneHost(lab, datapath);
      await ping(web.namespace, db.ip4);
      const outagesMs: number[] = [];
      for (let time = 1; time <= TIMES; time++) {
        const { dataAgainMs, probeAgainMs } = await killAndRestart(weft, web, db);
        report.figure(
          `data again ${dataAgainMs.toFixed(0)} ms after the kill, probe ${probeAgainMs.toFixed(0)} ms after the command`,
        );
        outagesMs.push(probeAgainMs);
      }
      outagesMs.sort((a, b) => a - b);
      const [medianMs, mostMs] = [outagesMs[TIMES / 2]!, outagesMs.at(-1)!];
      report.must(medianMs <= promises.medianMs, `outage: median ${medianMs.toFixed(0)} ms of ${TIMES} kills`);
      report.must(mostMs <= promises.mostMs, `outage: ${mostMs.toFixed(0)} ms at most`);
    } finally {
      await lab.close();
    }
  },
}));
