/**
 * The audit finds what is not as it would be decided now, whatever made it so, and repairs it. It takes no change that is on its way
 * for a mismatch. In all other tests with a simulation, each mismatch is a failure (`simulation.ts`).
 */
import t from 'tap';
import { Audit, type Mismatch } from '../../src/control/audit.ts';
import { ctState, fields } from '../../src/flow/fields.ts';
import { readNumber } from '../../src/flow/key.ts';
import { dropReasons } from '../../src/flow/reason.ts';
import { formatMac, parseIp, parseMac, type FlowId, type PortNo, type Vni } from '../../src/flow/types.ts';
import { createSimulation } from '../../src/simulation.ts';
import type { Backend } from '../../src/table/service.ts';
import { gatewayMac } from '../../src/table/topology.ts';
import { identityOf, policyOf } from '../support/policy/tables.ts';
import { simulatedDatapaths } from '../support/policy/simulated.ts';
import type { Pod, World } from '../support/policy/world.ts';
import { udp } from '../support/frames.ts';
import { backend, service, servicePort } from '../support/services.ts';

const BLUE = 100 as Vni;
const names = ['web', 'api', 'db'] as const;
const macs = names.map((_, n) => `02:00:00:00:00:0${n + 2}`);
const addresses = names.map((_, n) => `10.0.0.${n + 2}`);
const FAR = '203.0.113.9';

for (const [kind, open] of Object.entries(simulatedDatapaths)) {
  function lab() {
    const net = createSimulation({ open });
    t.teardown(() => net.close());
    const host = net.host('a', '192.0.2.1');
    host.createNetwork('blue', BLUE, { subnets: ['10.0.0.0/24'], outside: true });
    const outside = host.openOutside({ transit: ['169.254.77.2'] });
    const [web, api, db] = names.map((name, n) =>
      host.attach({ name: `shop/${name}`, network: 'blue', mac: macs[n]!, addresses: [addresses[n]!] }),
    );
    const { controller, datapath, tables } = host.forwarding;
    const { audit, flows } = controller;
    const found: Mismatch[] = [];
    audit.onMismatch = (mismatch) => found.push(mismatch);
    const between = (from: number, to: number) => ({
      ...{ srcMac: macs[from]!, dstMac: macs[to]!, src: addresses[from]!, dst: addresses[to]! },
    });
    const asksDb = udp(between(0, 2), 5000, 53);
    const answers = udp(between(2, 0), 53, 5000);
    const asksFar = (from: number) =>
      udp({ ...between(from, 0), dstMac: formatMac(gatewayMac(BLUE)), dst: FAR }, 6000, 53);
    /** The flow of a conversation that is open, out of that port. */
    const flowTo = (portNo: PortNo) =>
      [...flows.all()].find(
        ({ key, decision }) =>
          readNumber(key, fields.ct_state) === ctState.known && outputsTo(decision.actions) === portNo,
      )!;
    return {
      ...{ net, host, outside, controller, datapath, tables, audit, flows, found },
      ...{ web: web!, api: api!, db: db!, asksDb, answers, asksFar, flowTo },
    };
  }

  t.test(`${kind}: what nobody has disturbed is as it would be decided`, (t) => {
    const { net, web, api, db, asksDb, answers, asksFar, outside, audit, found } = lab();
    web.send(asksDb);
    db.send(answers);
    web.send(asksFar(0));
    api.send(asksFar(1));
    t.equal(outside.received.length, 2);
    for (let n = 0; n < 3; n++) net.advance(1000);
    t.same(found, []);
    const { flows, connections, mismatches } = audit.statistics;
    t.ok(flows > 3, `${flows} flows`);
    t.ok(connections > 0, 'that of web with db is in use');
    t.equal(mismatches, 0);
    t.end();
  });

  t.test(`${kind}: a flow that the datapath does not have as it was given is found, and decided again`, (t) => {
    const { net, web, db, asksDb, datapath, flowTo, flows, found, audit } = lab();
    const corruptions: readonly ((id: FlowId) => void)[] = [
      (id) => {
        const { key, mask } = datapath.flowGet(id)!;
        datapath.flowPut({ id, key, mask, actions: [{ op: 'output', port: web.portNo }] });
      },
      (id) => datapath.flowDel(id),
      (id) => {
        const { key, mask, actions } = datapath.flowGet(id)!;
        datapath.flowDel(id);
        const other = key.slice();
        other.fill(7, 0, 1);
        datapath.flowPut({ id, key: other, mask, actions });
      },
    ];
    for (const [n, corrupt] of corruptions.entries()) {
      web.send(asksDb);
      web.send(asksDb);
      const { id } = flowTo(db.portNo);
      corrupt(id);
      const before = db.received.length;
      web.send(asksDb);
      if (n === 0) t.equal(db.received.length, before, 'it goes back to its sender');
      net.advance(1000);
      t.equal(found.length, n + 1);
      t.equal(found[n]!.what, `flow ${id}`);
      t.match(found[n]!.why, /^the datapath (has|does not have) /);
      t.equal(flows.get(id), undefined);
      web.send(asksDb);
      t.ok(db.received.length > before, 'and then it goes to db again');
      net.advance(1000);
      t.equal(found.length, n + 1, 'which is as it should be');
    }
    t.same(audit.statistics.last, found.at(-1));
    t.end();
  });

  t.test(`${kind}: a change that nobody noted is found`, (t) => {
    const { net, host, web, db, asksDb, controller, flowTo, found } = lab();
    web.send(asksDb);
    const { id } = flowTo(db.portNo);
    const revalidate = controller.revalidator.revalidate.bind(controller.revalidator);
    controller.revalidator.revalidate = () => {};
    host.detach('shop/db');
    controller.revalidator.revalidate = revalidate;
    net.advance(1000);
    t.match(
      found.find(({ what }) => what === `flow ${id}`),
      { why: /^it would be .* now, not / },
    );
    const before = found.length;
    net.advance(1000);
    t.equal(found.length, before, 'what was found is gone');
    t.end();
  });

  t.test(`${kind}: a change that is on its way is no mismatch`, (t) => {
    const { web, db, api, asksDb, controller, datapath, tables, audit, flows, found } = lab();
    web.send(asksDb);
    audit.tick();
    const before = audit.statistics.flows;
    t.ok(before > 0);
    tables.fdb.setStatic(BLUE, parseMac(macs[2]!), { kind: 'port', port: api.portNo });
    audit.tick();
    t.equal(audit.statistics.flows, before, 'nothing is compared');
    controller.enforce();
    audit.tick();
    t.ok(audit.statistics.flows > before);
    const parts = { tables, datapath, flows, later: undefined, changes: { isEmpty: true } as never };
    const { sweep, revalidator } = controller;
    for (const waiting of [
      new Audit({ ...parts, sweep, revalidator: { isSettled: false } }),
      new Audit({ ...parts, revalidator, sweep: { isAtRest: false, startAll: () => {} } }),
    ]) {
      datapath.flowDel([...flows.all()][0]!.id);
      waiting.tick();
      t.match(waiting.statistics, { flows: 0, connections: 0, mismatches: 0 });
    }
    t.same(found, []);
    t.equal(db.received.length, 1);
    t.end();
  });

  t.test(`${kind}: a connection that policies deny, and no sweep has ended, is found and ended`, (t) => {
    const { net, web, db, asksDb, answers, controller, datapath, tables, found } = lab();
    const pods = names.map(
      (name, n): Pod => ({ name, namespace: 'shop', labels: { app: name }, ports: [], addresses: [addresses[n]!] }),
    );
    const world: World = { namespaces: [{ name: 'shop', labels: {} }], pods, policies: [] };
    web.send(asksDb);
    db.send(answers);
    const tuple = { source: parseIp(addresses[0]!), sourcePort: 5000, destination: parseIp(addresses[2]!) };
    const isOpen = () => {
      const one = datapath.connections.lookup(BLUE, 17, { ...tuple, destinationPort: 53 });
      return one !== undefined && datapath.connections.records.kind(one.slot) === 'tracked';
    };
    const policy = policyOf({
      kind: 'NetworkPolicy',
      metadata: { name: 'db', namespace: 'shop' },
      spec: { podSelector: { matchLabels: { app: 'db' } }, ingress: [] },
    });
    tables.policies.setSubject('shop/db', {
      ...{ identity: identityOf(world, pods[2]!), onDeny: 'drop', policies: [policy] },
    });
    tables.policies.takeConcerned();
    controller.enforce();
    t.ok(isOpen(), 'nobody has judged it');
    net.advance(1000);
    t.match(found, [{ what: /^connection c\d+$/, why: 'policies for ingress deny it' }]);
    t.notOk(isOpen());
    net.advance(1000);
    t.equal(found.length, 1);
    t.end();
  });

  /** The clients of a service in the namespace `default`, whose backends are `api` and `db`. */
  function balancedLab() {
    const net = createSimulation({ open });
    t.teardown(() => net.close());
    const host = net.host('here', '192.0.2.1');
    host.createNetwork('blue', BLUE, { subnets: ['10.0.0.0/24'] });
    const [web, ...others] = names.map((name, n) =>
      host.attach({ name, network: 'blue', mac: macs[n]!, addresses: [addresses[n]!] }),
    );
    const { forwarding } = host;
    const { controller, datapath, tables } = forwarding;
    const found: Mismatch[] = [];
    controller.audit.onMismatch = (mismatch) => found.push(mismatch);
    const serve = (more: readonly Backend[] = []): void => {
      const backends = [1, 2].map((n) =>
        backend(addresses[n]!, { vni: BLUE, host: 'here', endpoint: `default/${names[n]}` }),
      );
      const all = [...more, ...backends];
      forwarding.setService(service({ backends: all, ports: [servicePort(all.length, { protocol: 17 })] }));
    };
    const ask = (sourcePort: number) => {
      const { upcalls } = datapath.counters();
      const ends = { srcMac: macs[0]!, dstMac: formatMac(gatewayMac(BLUE)), src: addresses[0]!, dst: '10.96.0.1' };
      web!.send(udp(ends, sourcePort, 80));
      for (const [n, port] of others.entries()) {
        if (port.received.splice(0).length === 0) continue;
        const back = { srcMac: macs[n + 1]!, dstMac: macs[0]!, src: addresses[n + 1]!, dst: addresses[0]! };
        port.send(udp(back, 8080, sourcePort));
        return { sourcePort, name: names[n + 1]!, isByDatapath: datapath.counters().upcalls === upcalls };
      }
      return undefined;
    };
    /** From so many source ports. */
    const askFrom = (first: number, count: number) =>
      Array.from({ length: count }, (_, n) => ask(first + n) ?? []).flat();
    const db: Pod = { name: 'db', namespace: 'default', labels: {}, ports: [], addresses: [addresses[2]!] };
    const world: World = { namespaces: [{ name: 'default', labels: {} }], pods: [db], policies: [] };
    /** Nobody may talk to db any more, and no open connection is judged for that. */
    const closeDb = (): void => {
      const metadata = { name: 'db', namespace: 'default' };
      const closed = policyOf({ kind: 'NetworkPolicy', metadata, spec: { podSelector: {}, ingress: [] } });
      tables.policies.setSubject('db', { identity: identityOf(world, db), onDeny: 'drop', policies: [closed] });
      tables.policies.takeConcerned();
      controller.enforce();
    };
    return { net, tables, controller, found, serve, ask, askFrom, closeDb };
  }

  t.test(`${kind}: so is one that the datapath has opened by itself, to a backend in the namespace default`, (t) => {
    const { net, found, serve, ask, askFrom, closeDb } = balancedLab();
    serve();
    const ofDb = askFrom(5000, 40).filter(({ name }) => name === 'db');
    t.ok(
      ofDb.some(({ isByDatapath }) => isByDatapath),
      'the datapath has opened some',
    );
    closeDb();
    const [first] = ofDb;
    t.equal(ask(first!.sourcePort)?.name, 'db', 'nobody has judged them');
    for (let n = 0; n < 5 && found.length === 0; n++) net.advance(1000);
    t.match(found[0], { what: /^connection c\d+$/, why: 'policies for ingress deny it' });
    t.same(
      ofDb.map(({ sourcePort }) => ask(sourcePort)),
      ofDb.map(() => undefined),
      'all that it denies have ended',
    );
    t.end();
  });

  t.test(
    `${kind}: a flow by which the datapath may open a connection that policies deny is found, and opens none any more`,
    (t) => {
      for (const more of [0, 200]) {
        const { net, tables, controller, found, serve, ask, askFrom, closeDb } = balancedLab();
        const there = parseIp('192.0.2.9');
        const elsewhere = Array.from({ length: more }, (_, n) => {
          const [mac, address] = [parseMac(`02:00:00:00:01:${n.toString(16).padStart(2, '0')}`), `10.0.0.${20 + n}`];
          tables.fdb.setStatic(BLUE, mac, { kind: 'vtep', vtep: there });
          tables.neighbors.set(BLUE, parseIp(address), mac);
          return backend(address, { vni: BLUE, host: 'there', endpoint: `default/f${n}` });
        });
        serve(elsewhere);
        const before = askFrom(5000, 2000);
        t.ok(before.some(({ name, isByDatapath }) => name === 'db' && isByDatapath));
        net.advance(1000);
        t.same(found, [], 'as long as policies deny nobody, it is as it should be');

        const revalidate = controller.revalidator.revalidate.bind(controller.revalidator);
        controller.revalidator.revalidate = () => {};
        closeDb();
        controller.revalidator.revalidate = revalidate;
        const opened = askFrom(7001, 2000).filter(({ name }) => name === 'db');
        t.ok(opened.length > 0, 'the datapath opens connections to it');
        const mismatches = controller.audit.statistics.mismatches;
        for (let n = 0; n < 20 && !found.some(isOfOpening); n++) net.advance(1000);
        t.ok(found.some(isOfOpening), 'it is found');
        t.ok(controller.audit.statistics.mismatches > mismatches, 'and counted');
        t.same(
          opened.filter(({ sourcePort }) => ask(sourcePort) !== undefined),
          [],
          'what it has opened has ended',
        );
        const after = askFrom(9001, 2000);
        t.notOk(
          after.some(({ name }) => name === 'db'),
          'it opens no others',
        );
        t.ok(
          after.some(({ name }) => name === 'api'),
          'but those that are allowed',
        );
        const total = found.length;
        for (let n = 0; n < 5; n++) net.advance(1000);
        t.equal(found.length, total, 'and then all is as it should be');
      }
      t.end();
    },
  );

  t.test(`${kind}: the flow of a translated connection is compared with what is decided for that connection`, (t) => {
    const { net, web, api, outside, asksFar, datapath, tables, flows, found } = lab();
    const answerTo = (asked: Uint8Array): Uint8Array => {
      // Back to front: addresses and ports of the packet that came out.
      const frame = asked.slice();
      for (const [a, b, size] of [
        [0, 6, 6],
        [26, 30, 4],
        [34, 36, 2],
      ] as const) {
        frame.set(asked.subarray(a, a + size), b);
        frame.set(asked.subarray(b, b + size), a);
      }
      return frame;
    };
    for (const [n, port] of [web, api].entries()) {
      port.send(asksFar(n));
      outside.send(answerTo(outside.received.at(-1)!));
      t.equal(port.received.length, 1, 'it is answered');
      port.send(asksFar(n));
    }
    const founds = [0, 1].map(
      (n) =>
        tables.connections.lookup(BLUE, 17, {
          ...{ source: parseIp(addresses[n]!), sourcePort: 6000, destination: parseIp(FAR), destinationPort: 53 },
        })!,
    );
    const [ofWeb, ofApi] = founds.map((one) => tables.connections.flow(one));
    t.ok(ofWeb! > 0 && ofApi! > 0 && ofWeb !== ofApi, `${ofWeb} and ${ofApi}`);
    net.advance(1000);
    t.same(found, []);

    const { key, mask } = datapath.flowGet(ofWeb as FlowId)!;
    datapath.flowPut({
      ...{ id: ofWeb as FlowId, key, mask, ofConnections: true },
      actions: [{ op: 'drop', reason: dropReasons[0][0] }],
    });
    net.advance(1000);
    t.match(found, [{ what: `flow ${ofWeb}`, why: /^the datapath has drop/ }]);
    const before = outside.received.length;
    web.send(asksFar(0));
    t.equal(outside.received.length, before + 1);

    tables.connections.setFlow(founds[0]!, ofApi!);
    net.advance(1000);
    t.match(found[1], { what: `connection c${founds[0]!.slot}`, why: /^its flow \d+: it would be / });
    t.equal(flows.get(ofApi as FlowId), undefined);
    for (const [n, port] of [web, api].entries()) port.send(asksFar(n));
    t.equal(outside.received.length, before + 3);
    net.advance(1000);
    t.equal(found.length, 2);
    t.end();
  });

  t.test(`${kind}: what hooks say is not asked for again, since it may be something else each time`, (t) => {
    const { net, web, db, asksDb, tables, controller, datapath, flows, found } = lab();
    let asked = 0;
    tables.hooks.set([
      {
        ...{ name: 'moody', onError: 'allow' },
        ask: () =>
          asked++ === 0
            ? { kind: 'unavailable', why: 'it is busy' }
            : { kind: 'verdict', verdict: 'deny', reason: 'no', read: [] },
      },
    ]);
    controller.enforce();
    web.send(asksDb);
    t.equal(db.received.length, 1);
    const before = asked;
    for (let n = 0; n < 3; n++) net.advance(1000);
    t.equal(asked, before);
    t.same(found, []);
    const first = [...flows.all()].find(({ key }) => readNumber(key, fields.ct_state) === ctState.none)!;
    datapath.flowDel(first.id);
    net.advance(1000);
    t.match(found, [{ what: `flow ${first.id}`, why: 'the datapath does not have it' }]);
    t.end();
  });

  t.test(`${kind}: whoever has new flows all the time keeps no others from being looked at`, (t) => {
    const { web, db, asksDb, audit, datapath, flowTo, found } = lab();
    let next = 0;
    const scan = (count: number): void => {
      for (let n = 0; n < count; n++, next++) web.send(udp(toNobody(next), 1, 2));
    };
    web.send(asksDb);
    audit.tick();
    scan(400);
    audit.tick();
    const { id } = flowTo(db.portNo);
    datapath.flowDel(id);
    for (let n = 0; n < 10; n++) {
      scan(400);
      audit.tick();
    }
    t.ok(found.some(({ what }) => what === `flow ${id}`));
    t.end();
  });

  t.test(`${kind}: a connection that a defect keeps from being judged is told, and ends`, (t) => {
    const { net, web, db, asksDb, answers, tables, found } = lab();
    web.send(asksDb);
    db.send(answers);
    const peerAt = tables.policies.peerAt.bind(tables.policies);
    tables.policies.peerAt = () => {
      throw new Error('a defect');
    };
    net.advance(1000);
    tables.policies.peerAt = peerAt;
    t.match(found, [{ what: /^connection c\d+$/, why: 'policies cannot judge it: a defect' }]);
    net.advance(1000);
    t.equal(found.length, 1);
    t.end();
  });

  t.test(`${kind}: of very many mismatches some are told, and all are counted`, (t) => {
    const { web, audit, flows, datapath, found } = lab();
    for (let n = 0; n < 20; n++) web.send(udp(toNobody(n), 1, 2));
    const count = flows.size;
    t.ok(count >= 20);
    for (const { id } of flows.all()) datapath.flowDel(id);
    while (flows.size > 0) audit.tick();
    t.equal(audit.statistics.mismatches, count);
    t.equal(found.length, 5);
    t.end();
  });

  t.test(`${kind}: where there is little, each is looked at once a second`, (t) => {
    const { web, db, asksDb, answers, audit, flows, tables } = lab();
    web.send(asksDb);
    db.send(answers);
    for (let second = 1; second <= 3; second++) {
      audit.tick();
      t.match(audit.statistics, { flows: second * flows.size, connections: second * tables.connections.size });
    }
    t.ok(flows.size > 0 && tables.connections.size > 0);
    t.end();
  });

  t.test(`${kind}: what one second takes is bounded`, (t) => {
    const { web, audit, flows } = lab();
    for (let n = 0; n < 600; n++) web.send(udp(toNobody(n), 1, 2));
    t.ok(flows.size >= 600, `there are ${flows.size}`);
    audit.tick();
    t.ok(audit.statistics.flows <= 256, `${audit.statistics.flows} flows`);
    t.end();
  });
}

function isOfOpening({ what, why }: Mismatch): boolean {
  return /^flow \d+$/.test(what) && why === 'policies for ingress deny what it may open, to 10.0.0.4 port 8080';
}

/** To a workload that nobody knows, another one for each number: a flood, and a flow, for each. */
function toNobody(n: number) {
  const dstMac = `02:00:00:01:${[n >> 8, n & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
  return { srcMac: macs[0]!, dstMac, src: addresses[0]!, dst: '10.0.0.99' };
}

function outputsTo(actions: readonly { readonly op: string; readonly port?: PortNo }[]): PortNo | undefined {
  const outputs = actions.filter(({ op }) => op === 'output');
  return outputs.length === 1 ? outputs[0]!.port : undefined;
}
