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

t.test('capabilities are told whatever is known, and everything else is refused with why', async (t) => {
  const { docker, failures, knows } = unknowing();
  const why = 'the store has not answered yet';
  const refused = { Err: why, Error: why };
  // By the status, Docker knows that there is no driver yet, and asks again.
  t.same(await docker.answer('Plugin.Activate', undefined), { status: 503, body: refused });
  t.match(failures.splice(0), [{ method: 'Plugin.Activate', why }], 'and that is told');
  for (const name of ['IpamDriver.RequestPool', 'NetworkDriver.Join', 'NetworkDriver.CreateNetwork'])
    t.same(await docker.answer(name, {}), { body: refused }, name);
  const constant = async (): Promise<void> => {
    t.same(await docker.answer('IpamDriver.GetCapabilities', undefined), {
      body: { RequiresMACAddress: false, RequiresRequestReplay: true },
    });
    t.same(await docker.answer('NetworkDriver.GetCapabilities', undefined), {
      body: { Scope: 'local', ConnectivityScope: 'global' },
    });
  };
  await constant();
  knows();
  await constant();
});

t.test('a request without contents is one that Docker repeats', async (t) => {
  const { docker, knows } = unknowing();
  knows();
  t.match(await docker.answer('IpamDriver.RequestAddress', undefined), {
    body: { Err: /^weft has restarted while Docker asked this/ },
  });
});
