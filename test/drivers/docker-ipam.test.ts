/** What becomes of an address for which weft was killed before it could answer Docker, or that Docker has left. */
import t from 'tap';
import { heldText, type Endpoint } from '../../src/cluster/endpoint.ts';
import { DockerEndpoints } from '../../src/drivers/docker/endpoints.ts';
import { WeftError } from '../../src/error.ts';
import { Ipam, type IpamEnvironment } from '../../src/drivers/docker/ipam.ts';
import { DOCKER } from '../../src/model/endpoint-annotations.ts';
import type { Resource } from '../../src/model/resource.ts';

const PoolID = 'blue/10.44.0.0/24';

/** A host whose daemon may be killed: the endpoints stay, and what it has noted. */
function host() {
  const endpoints = new Map<string, Endpoint>();
  const notes = new Map<string, object>();
  /** What goes wrong with which endpoints, or with the notes. */
  const failing = new Set<string>();
  let count = 0;
  const begin = () => {
    const dockerEndpoints = new DockerEndpoints();
    for (const endpoint of endpoints.values()) dockerEndpoints.endpointChanged(undefined, endpoint);
    let isKilled = false;
    let isToBeKilled = false;
    const carrying = {
      all: () => [...endpoints.values()],
      broughtBack: () => [...endpoints.values()].filter(({ state }) => state === 'attached'),
      end: () => Promise.resolve(),
    };
    const environment = {
      onFailure: () => {},
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
          if (failing.has(name)) return Promise.reject(new WeftError('unreachable', 'the store is away'));
          dockerEndpoints.endpointChanged(endpoints.get(name), undefined);
          endpoints.delete(name);
          return Promise.resolve();
        },
      }),
      endpoints: { find: (name: string) => endpoints.get(name), carrying },
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
          if (failing.has('notes') && put.length === 0) return Promise.reject(new Error('no space left'));
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
      /** A minute after another. */
      minutes: async (count: number) => {
        for (let i = 0; i <= count; i++) await ipam.releaseLeft();
      },
      request: (Address?: string) => ipam.requestAddress({ PoolID, Address: Address ?? '', Options: {} }),
      /** It is killed when it has an address, and has not answered. */
      killedAsking: (Address?: string) => {
        isToBeKilled = true;
        return ipam.requestAddress({ PoolID, Address: Address ?? '', Options: {} });
      },
    };
  };
  return { begin, endpoints, notes, failing };
}

const held = (address: string): object => ({ Address: `${address}/24`, Data: {} });

t.test('it is given to Docker when it asks again', async (t) => {
  const { begin, endpoints, notes } = host();
  await begin().killedAsking('10.44.0.20');
  const { request, minutes } = begin();
  t.same(await request('10.44.0.20'), held('10.44.0.20'));
  t.equal(notes.size, 0);
  await minutes(2);
  t.equal(endpoints.size, 1, 'and stays');
});

t.test('one that was answered is nobody else’s, and is not released', async (t) => {
  const { begin, endpoints, notes } = host();
  const first = begin();
  t.same(await first.request('10.44.0.30'), held('10.44.0.30'));
  t.equal(notes.size, 0);
  await begin().minutes(2);
  t.equal(endpoints.size, 1);
});

t.test('nobody asks again: it is released, whether it was named or not', async (t) => {
  for (const address of ['10.44.0.20', undefined]) {
    const { begin, endpoints, notes } = host();
    await begin().killedAsking(address);
    t.equal(endpoints.size, 1);
    const { ipam } = begin();
    await ipam.releaseLeft();
    t.equal(endpoints.size, 1, 'but not before Docker has asked for it again, if it does');
    await ipam.releaseLeft();
    t.equal(endpoints.size, 0);
    t.equal(notes.size, 0);
  }
});

/** As its driver leaves it. */
function change(endpoints: Map<string, Endpoint>, annotation: string, state: Endpoint['state']): void {
  const [name, endpoint] = [...endpoints][0]!;
  const { resource } = endpoint;
  const metadata = { ...resource.metadata, annotations: { [DOCKER]: annotation } };
  endpoints.set(name, { ...endpoint, state, resource: { ...resource, metadata } });
}

t.test('an address that Docker was to give back next comes back, also if that fails at first', async (t) => {
  const { begin, endpoints, failing } = host();
  await begin().request('10.44.0.40');
  change(endpoints, heldText('10.44.0.0/24', 'afterwards'), 'detached');
  const { minutes } = begin();
  const [name] = [...endpoints.keys()];
  failing.add(name!);
  await minutes(2);
  t.equal(endpoints.size, 1);
  failing.clear();
  await minutes(0);
  t.equal(endpoints.size, 0);
});

t.test('what Docker has brought back is removed after a minute, and not the next endpoint with its name', async (t) => {
  const { begin, endpoints } = host();
  await begin().request('10.44.0.50');
  const { ipam } = begin();
  change(endpoints, 'network/first', 'attached');
  await ipam.releaseLeft();
  change(endpoints, 'network/second', 'attached');
  await ipam.releaseLeft();
  t.equal(endpoints.size, 1);
  await ipam.releaseLeft();
  t.equal(endpoints.size, 0);
});

t.test('a failure to release one keeps none of the others, and it is tried again', async (t) => {
  const { begin, endpoints, failing } = host();
  await begin().killedAsking('10.44.0.60');
  await begin().killedAsking('10.44.0.61');
  const [first] = [...endpoints.keys()];
  failing.add(first!);
  const { minutes } = begin();
  await minutes(1);
  t.same([...endpoints.keys()], [first]);
  failing.clear();
  await minutes(0);
  t.equal(endpoints.size, 0);
});

t.test(
  'a note that could not be deleted when the address was answered is not taken for one of an address that was not',
  async (t) => {
    const { begin, endpoints, notes, failing } = host();
    const { request, minutes } = begin();
    failing.add('notes');
    t.same(await request('10.44.0.70'), held('10.44.0.70'));
    t.equal(notes.size, 1);
    failing.clear();
    await minutes(1);
    t.equal(notes.size, 0);
    await begin().minutes(2);
    t.equal(endpoints.size, 1);
  },
);
