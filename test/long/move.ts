/**
 * How long a TCP connection pauses when its endpoint moves to another host.
 *
 *     node --import=tsx test/long/move.ts [--times 20] [--datapath native]
 *
 * Three hosts share an etcd of one member. A container is taken over by one host from the other again and again, while
 * another one on the third host exchanges a byte with it every 10 ms. Prints the median and the longest pause. Exits with 1
 * if the connection ends, or if one pause is longer than 500 ms.
 */
import { parseArgs } from 'node:util';
import { etcdCluster } from '../support/cluster.ts';
import { Lab } from '../support/lab.ts';
import { startTalk } from '../support/talk.ts';
import { datapathKinds, type Weft } from '../support/weft.ts';

/** The longest that an established connection may pause. */
const MOST_PAUSED_MS = 500;

const { values } = parseArgs({ options: { times: { type: 'string', default: '20' }, datapath: { type: 'string' } } });
const times = Number(values.times);

for (const datapath of datapathKinds.filter((kind) => values.datapath === undefined || values.datapath === kind)) {
  const lab = new Lab();
  try {
    const cluster = await etcdCluster(lab, 3);
    const [a, ...others] = (await cluster.up(datapath)) as [Weft, Weft, Weft];
    await a.createNetwork('blue --subnet 10.44.0.0/24');
    const [client, app] = [await lab.namespace('client'), await lab.namespace('app')];
    await a.attach(client, { name: 'client', network: 'blue', arguments: ['--wait'] });
    const { addresses } = await others[0].attach(app, { name: 'app', network: 'blue', arguments: ['--wait'] });
    const talk = await startTalk(client, app, addresses[0]!);
    const pauses: number[] = [];
    for (let time = 1; time <= times; time++) {
      const to = others[time % 2]!;
      const move = () => to.attach(app, { name: 'app', network: 'blue', arguments: ['--move', '--wait'] });
      pauses.push(await talk.during(move));
    }
    pauses.sort((x, y) => x - y);
    const [median, longest] = [pauses[Math.floor(times / 2)]!, pauses.at(-1)!];
    const holds = longest <= MOST_PAUSED_MS && !talk.isClosed();
    console.log(
      `${holds ? 'ok    ' : 'FAILED'} ${datapath}: pauses in ${times} moves: median ${median} ms, longest ${longest} ms`,
    );
    if (!holds) process.exitCode = 1;
    await talk.stop();
  } finally {
    await lab.close();
  }
}
