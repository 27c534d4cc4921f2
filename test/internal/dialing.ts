/** A server for tests that checks who asks it: `http 8080 4` is answered with what a check of that port by IPv4 has found. */
import type { CheckTarget } from '../../src/health/checker.ts';
import { dial } from '../../src/health/dial.ts';
import type { OpenServer } from '../../src/internal/server.ts';
import { formatIp } from '../../src/flow/types.ts';
import { clientAddress } from '../../src/table/clients.ts';

const open: OpenServer = () => ({
  datagram(message, { id, endpoint }, answer) {
    const [type, l4Port, family] = Buffer.from(message).toString().split(' ');
    const address = formatIp(clientAddress(id, family === '4', 0));
    const target: CheckTarget = {
      ...{ id: endpoint, owner: endpoint, address, l4Port: Number(l4Port), path: '/' },
      ...{ intervalMs: 1000, timeoutMs: 1000, failures: 1, successes: 1 },
      type: type === 'http' ? 'http' : 'tcp',
    };
    dial(target, (failure = 'works') => answer(Buffer.from(failure)));
  },
});

export default open;
