/** What becomes of an address for which weft was killed before it could answer Docker. */
import t from 'tap';
import type { Endpoint } from '../../src/cluster/endpoint.ts';
import { DockerEndpoints } from '../../src/drivers/docker/endpoints.ts';
import { Ipam, type IpamEnvironment } from '../../src/drivers/docker/ipam.ts';
import type { Resource } from '../../src/model/resource.ts';

const PoolID = 'blue/10.44.0.0/24';

/** A host whose daemon may be killed: the endpoints stay, and what it has noted. */
function host() {
  const endpoints = new Map<string, Endpoint>();
  const notes = new Map<string, object>();
  let count = 0;
  const begin = () => {
    const dockerEndpoints = new DockerEndpoints();
    for (const endpoint of endpoints.values()) dockerEndpoints.endpointChanged(undefined, endpoint);
    let isKilled = false;
    let isToBeKilled = false;
    const environment = {
      cluster: () => ({
        change: <T>(work: () => T) => work(),
        applyOrTakeBack: (resource: Resource) => {
          const { metadata, spec } = resource as Endpoint['resource'];
          const addresses = spec.addresses.length > 0 ? spec.addresses : ['10.44.0.99'];
          const endpoint = { name: metadata.name, resource, addresses } as unknown as Endpoint;
          endpoints.set(metadata.name, endpoint);
          dockerEndpoints.endpointChanged(undefined, endpoint);
          isKilled = isToBeKilled;
          return Promise.resolve();
        },
        deleteNow: (_: unknown, { name }: { readonly name: string }) => {
          dockerEndpoints.endpointChanged(endpoints.get(name), undefined);
          endpoints.delete(name);
          return Promise.resolve();
        },
      }),
      endpoints: { find: (name: string) => endpoints.get(name), carrying: { all: () => [...endpoints.values()] } },
      networks: {
        get: () => ({ name: 'blue', pools: [{ subnet: '10.44.0.0/24', prefixLength: 24, gateway: '10.44.0.1' }] }),
      },
      dockerEndpoints,
      own: {
        get: (key: string) => Promise.resolve(notes.get(key)),
        list: (prefix: string) =>
          Promise.resolve({
            entries: [...notes.keys()].filter((key) => key.startsWith(prefix)).map((key) => ({ key })),
          }),
        transact: ({
          put = [],
          delete: deleted = [],
        }: {
          put?: { key: string; value: object }[];
          delete?: string[];
        }) => {
          if (isKilled) return Promise.reject(new Error('killed'));
          for (const { key, value } of put) notes.set(key, value);
          for (const key of deleted) notes.delete(key);
          return Promise.resolve(1);
        },
      },
      newId: () => (++count).toString(16).padStart(8, '0'),
    } as unknown as IpamEnvironment;
    const ipam = new Ipam(environment);
    ipam.begin();
    return {
      ipam,
      request: (Address?: string) => ipam.requestAddress({ PoolID, Address: Address ?? '', Options: {} }),
      /** It is killed when it has an address, and has not answered. */
      killedAsking: (Address?: string) => {
        isToBeKilled = true;
        return ipam.requestAddress({ PoolID, Address: Address ?? '', Options: {} });
      },
    };
  };
  return { begin, endpoints, notes };
}

const held = (address: string): object => ({ Address: `${address}/24`, Data: {} });

t.test('it is given to Docker when it asks again', async (t) => {
  const { begin, endpoints, notes } = host();
  await begin().killedAsking('10.44.0.20');
  const { request, ipam } = begin();
  t.same(await request('10.44.0.20'), held('10.44.0.20'));
  t.equal(notes.size, 0);
  await ipam.releaseUnanswered();
  t.equal(endpoints.size, 1, 'and stays');
});

t.test('one that was answered is nobody else’s, and is not released', async (t) => {
  const { begin, endpoints, notes } = host();
  const first = begin();
  t.same(await first.request('10.44.0.30'), held('10.44.0.30'));
  t.equal(notes.size, 0);
  const { ipam } = begin();
  await ipam.releaseUnanswered();
  t.equal(endpoints.size, 1);
});

t.test('nobody asks again: it is released, whether it was named or not', async (t) => {
  for (const address of ['10.44.0.20', undefined]) {
    const { begin, endpoints, notes } = host();
    await begin().killedAsking(address);
    t.equal(endpoints.size, 1);
    await begin().ipam.releaseUnanswered();
    t.equal(endpoints.size, 0);
    t.equal(notes.size, 0);
  }
});
