/** `weft up` with a server of its own, which echoes: for tests of weft's own sockets. It has the same arguments. */
import { parseArgs } from 'node:util';
import { openApi } from '../../src/api/server.ts';
import { keepCapabilities } from '../../src/addon/privileges.ts';
import { openLogger } from '../../src/cli/logger.ts';
import { loadConfig } from '../../src/config.ts';
import { keptCapabilities } from '../../src/link/capabilities.ts';
import { createSwitch } from '../../src/switch.ts';
import { ECHO_PORT } from './port.ts';

const option = { type: 'string' } as const;
const { values } = parseArgs({
  allowPositionals: true,
  options: { socket: option, state: option, host: option, datapath: option, module: option },
});
const { socket = '', module = '', ...options } = values;
const logger = openLogger();
keepCapabilities(keptCapabilities);
const api = await openApi(socket);
const sw = await createSwitch({
  ...loadConfig(options),
  logger,
  connectionsFile: `${socket}.connections`,
  servers: [{ module, listening: (['UDP', 'TCP'] as const).map((protocol) => ({ protocol, l4Port: ECHO_PORT })) }],
});
const shutdown = async (): Promise<void> => {
  await sw.close();
  await api.close(AbortSignal.timeout(1000));
};
process.once('SIGTERM', () => void shutdown());
await api.serve({ sw, isStopping: () => false, shutdown }, (error) => logger.error({ err: error }, 'internal error'));
