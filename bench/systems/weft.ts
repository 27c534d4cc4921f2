/** weft as an operator would run it: `weft up`, `weft network create`, `weft attach`, with static peers. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attachContainer, overlay } from '../../test/support/topology.ts';
import { Weft, type DatapathKind, type UpOptions } from '../../test/support/weft.ts';
import type { Place, StartSwitch, Switch } from './system.ts';

const OUTSIDE_SERVER_IP = '192.0.2.2';
/** What the loads use of TCP: iperf3, and the load tool. */
const servicePorts = [5201, 7100];

export function startWeft(datapath: DatapathKind): StartSwitch {
  return (place) => startSwitch(place, { datapath });
}

/** From the other checkout. */
export const startWeftBefore: StartSwitch = (place) => {
  const { before } = place;
  if (before === undefined) throw new Error('no checkout was given by --before');
  return startSwitch(place, { datapath: 'native', checkout: before });
};

async function startSwitch({ lab, host, role, vtep }: Place, options: UpOptions): Promise<Switch> {
  const where = vtep ? { underlay: vtep.local, peers: [vtep.peer] } : {};
  const weft = await Weft.up(lab, host, role, { ...options, ...where });
  await weft.createNetwork(overlay.create);
  return { pids: [weft.pid], attach: (container, n) => attachContainer(lab, weft, container, n) };
}

/** The client reaches the server by the address of a service, whose only backend it is. */
export const startWeftService: StartSwitch = async ({ lab, host, role }) => {
  const weft = await Weft.up(lab, host, role, { datapath: 'native' });
  await weft.createNetwork(overlay.create);
  return {
    pids: [weft.pid],
    attach: (container, n) => attachContainer(lab, weft, container, n, ['--label', `app=${container}`]),
    serverAddress: async () => {
      const file = join(lab.directory, 'service.yaml');
      const ports = servicePorts.map((port) => `{ name: p${port}, port: ${port} }`);
      const spec = `{ selector: { app: server }, ports: [${ports.join()}] }`;
      writeFileSync(file, `apiVersion: v1\nkind: Service\nmetadata: { name: server }\nspec: ${spec}\n`);
      await weft.run('apply', '-f', file);
      const service = (await weft.json('get', 'service', 'server')) as {
        readonly spec: { readonly clusterIP: string };
      };
      return service.spec.clusterIP;
    },
  };
};

const POLICIES = 1000;

/** So many policies select both containers; one of them lets them talk to each other, the others hosts outside. */
export const startWeftPolicies: StartSwitch = async ({ lab, host, role }) => {
  const weft = await Weft.up(lab, host, role, { datapath: 'native' });
  await weft.createNetwork(overlay.create);
  const others = Array.from({ length: POLICIES - 1 }, (_, n) => policy(n, `ipBlock: { cidr: 172.16.${n >> 2}.0/24 }`));
  const file = join(lab.directory, 'policies.yaml');
  writeFileSync(file, [...others, policy(POLICIES, 'podSelector: {}')].join('---\n'));
  await weft.run('apply', '-f', file);
  return { pids: [weft.pid], attach: (container, n) => attachContainer(lab, weft, container, n) };
};

function policy(n: number, peer: string): string {
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: p${n} }
spec: { podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ from: [{ ${peer} }] }], egress: [{ to: [{ ${peer} }] }] }
`;
}

/** A flow hook that asks who talks to whom, and allows it. @param said what it returns of what it allows */
export function startWeftHook(said: string): StartSwitch {
  return async ({ lab, host, role }) => {
    const file = join(lab.directory, 'fence.ts');
    writeFileSync(file, hookSource(said));
    const weft = await Weft.up(lab, host, role, { datapath: 'native', arguments: ['--hook', file] });
    await weft.createNetwork(overlay.create);
    return {
      pids: [weft.pid],
      attach: (container, n) => attachContainer(lab, weft, container, n, ['--label', `app=${container}`]),
    };
  };
}

function hookSource(said: string): string {
  return `import { allow, defineHook, deny } from 'weft';
export default defineHook({
  name: 'fence',
  onFlow({ protocol, source, destination }) {
    if (protocol === 'tcp' && destination.port === 22) return deny('no shell');
    return source.labels.app === destination.labels.app ? deny('not to itself') : ${said};
  },
});
`;
}

/** The containers are in two networks with routes between them. */
export const startWeftRouted: StartSwitch = async ({ lab, host, role }) => {
  const weft = await Weft.up(lab, host, role, { datapath: 'native' });
  const red = { name: 'red', subnet: '10.45.0.0/24' };
  const [blueSubnet] = overlay.subnets;
  const blue = { subnets: [blueSubnet], vni: overlay.vni, routes: [{ to: red.subnet, network: red.name }] };
  await weft.client.createNetwork(overlay.network, blue);
  await weft.client.createNetwork(red.name, {
    subnets: [red.subnet],
    routes: [{ to: blueSubnet, network: overlay.network }],
  });
  return {
    pids: [weft.pid],
    attach: async (container, n) => {
      const namespace = await lab.namespace(container);
      const network = n % 2 === 0 ? red.name : overlay.network;
      const { addresses, mac } = await weft.attach(namespace, { name: container, network });
      return { namespace, ip4: addresses[0]!, ip6: '', mac };
    },
  };
};

/** The server is on the client's own host, outside of all networks: this measures weft's NAT by itself. */
export const startWeftNatToHost: StartSwitch = async ({ lab, host, role }) => {
  const config = join(lab.directory, 'weft.yaml');
  writeFileSync(config, 'allowHost: true\n');
  const weft = await Weft.up(lab, host, role, { datapath: 'native', arguments: ['--config', config] });
  await weft.createNetwork(`${overlay.create} --outside`);
  return {
    pids: [weft.pid],
    attach: async (container, n) => {
      if (n % 2 === 1) return attachContainer(lab, weft, container, n);
      await host.ip(`address add ${OUTSIDE_SERVER_IP}/32 dev lo`);
      return { namespace: host, ip4: OUTSIDE_SERVER_IP, ip6: '', mac: '' };
    },
  };
};

/** The server is on a cable to the host: the host's forwarding and masquerade are on the way. */
export const startWeftNatBeyondHost: StartSwitch = async ({ lab, host, role }) => {
  const weft = await Weft.up(lab, host, role, { datapath: 'native' });
  await weft.createNetwork(`${overlay.create} --outside`);
  return {
    pids: [weft.pid],
    attach: async (container, n) => {
      if (n % 2 === 1) return attachContainer(lab, weft, container, n);
      const namespace = await lab.namespace(container);
      await lab.cable(host, 'outer', namespace, 'eth0');
      await host.ip('address add 192.0.2.1/24 dev outer');
      await namespace.ip(`address add ${OUTSIDE_SERVER_IP}/24 dev eth0`);
      return { namespace, ip4: OUTSIDE_SERVER_IP, ip6: '', mac: '' };
    },
  };
};
