/** How what Docker asks for is answered if that fails. */
import t from 'tap';
import { Docker, type DockerOptions } from '../../src/drivers/docker/docker.ts';
import { WeftError } from '../../src/error.ts';

/** The driver of a host that knows nothing of the cluster yet, until that ends. */
function unknowing() {
  let why: string | undefined = 'the store has not answered yet';
  const failures: object[] = [];
  const options = {
    cluster: () => ({
      requireKnown: () => {
        if (why !== undefined) throw new WeftError('unreachable', why);
      },
    }),
    onFailure: (details: object) => failures.push(details),
  } as unknown as DockerOptions;
  const knows = (): void => {
    why = undefined;
  };
  return { docker: new Docker(options), failures, knows };
}

t.test('what Docker asks for once is asked again, and everything else is refused with why', async (t) => {
  const { docker, failures, knows } = unknowing();
  for (const name of ['Plugin.Activate', 'NetworkDriver.GetCapabilities', 'IpamDriver.GetCapabilities']) {
    t.equal(await docker.answer(name, {}), 'again', name);
    t.match(failures.splice(0), [{ method: name, why: 'the store has not answered yet' }], 'and that is told');
  }
  const refused = { Err: 'the store has not answered yet', Error: 'the store has not answered yet' };
  for (const name of ['IpamDriver.RequestPool', 'NetworkDriver.Join', 'NetworkDriver.CreateNetwork'])
    t.same(await docker.answer(name, {}), refused, name);
  knows();
  t.same(await docker.answer('IpamDriver.GetCapabilities', {}), {
    RequiresMACAddress: false,
    RequiresRequestReplay: true,
  });
  t.same(await docker.answer('NetworkDriver.GetCapabilities', {}), { Scope: 'local', ConnectivityScope: 'global' });
});
