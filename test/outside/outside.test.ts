/**
 * The host's side of the outside, with real packets.
 *
 *   ┌ client ┐ eth0 ── eth0 ┌ host: the process ┐ weft0 ── weft0 ┌ inside ┐
 *   └ .2 ::2 ┘              └ .1 ::1  .3        ┘                └ transit addresses: it stands for the switch
 *     192.0.2.0/24, 2001:db8::/64                    169.254.77.0/30, fd77:6566:7430::/126
 *
 * Tests about the TAP itself let a datapath create it instead of the cable.
 */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import t, { type Test } from 'tap';
import { parseIp, sameBytes } from '../../src/flow/types.ts';
import { transit } from '../../src/outside/link.ts';
import type { OutsideState } from '../../src/outside/state.ts';
import type { PublishedPort } from '../../src/model/publish.ts';
import { buildEchoBody, buildIcmp4 } from '../../src/wire/icmp.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { isAlive, until, type Background } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { ruleset } from '../support/ruleset.ts';
import { ip, tcp as frame, type Ends } from '../support/frames.ts';
import { isUnreachable, ping, python, sendFrames } from '../support/traffic.ts';
import { macs, type Request } from './outside.process.ts';

t.setTimeout(600_000);
// Most of the time it waits for packets that must not come.
t.jobs = 3;

/**
 * A single JavaScript file, which starts in a fifth of the time. It is inside the package, so that it finds the addon.
 */
const built = fileURLToPath(new URL(`../../node_modules/.cache/weft-t${process.pid}/`, import.meta.url));
const script = join(built, 'outside.process.mjs');
const command = [process.execPath, script];
buildSync({
  entryPoints: [fileURLToPath(new URL('./outside.process.ts', import.meta.url))],
  outfile: script,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
});
process.once('exit', () => rmSync(built, { recursive: true }));

interface Said {
  readonly reply?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: string; readonly message: string };
  readonly log?: { readonly message: string; readonly details: { readonly changed?: readonly string[] } };
  /** The interface was opened while these rules were in force. */
  readonly opened?: string;
}

/** Controls the process by requests and replies. */
class Opener {
  readonly process: Background;
  #answered = 0;

  constructor(process: Background) {
    this.process = process;
  }

  said(): Said[] {
    return this.process.lines.map(({ text }) => JSON.parse(text) as Said);
  }

  async ask(request: Request): Promise<Said> {
    this.process.write(`${JSON.stringify(request)}\n`);
    const index = this.#answered++;
    return until(() => this.said().filter(({ reply, error }) => reply ?? error)[index], {
      timeoutMs: 10_000,
      what: `answer to ${request.op}\n${this.process.stderr}`,
    });
  }

  /** A request that must succeed. */
  async do(request: Request): Promise<Readonly<Record<string, unknown>>> {
    const { reply, error } = await this.ask(request);
    if (!reply) throw new Error(`${request.op}: ${error?.message}`);
    return reply;
  }

  async inspect(): Promise<OutsideState> {
    return (await this.do({ op: 'inspect' })) as unknown as OutsideState;
  }
}

const startOpener = (host: Namespace, inside = command): Opener => new Opener(host.start(inside));

interface Place {
  readonly lab: Lab;
  readonly client: Namespace;
  readonly host: Namespace;
  readonly inside: Namespace;
  readonly opener: Opener;
}

const own = { 4: '192.0.2.1', 6: '2001:db8::1' } as const;
const second = '192.0.2.3';
const clientIp = { 4: '192.0.2.2', 6: '2001:db8::2' } as const;
const weftIp = { 4: transit.ip4.weft, 6: transit.ip6.weft } as const;
const families = [4, 6] as const;
/** Flags that no TCP connection begins with, nor continues with. */
const SYN_FIN = 3;
const bracketed = (ip: string): string => (ip.includes(':') ? `[${ip}]` : ip);

async function place(t: Test): Promise<Place> {
  const lab = openLab(t);
  const [client, host, inside] = [
    await lab.namespace('client'),
    await lab.namespace('host'),
    await lab.namespace('in'),
  ];
  await lab.cable(client, 'eth0', host, 'eth0');
  for (const family of families) {
    const length = family === 4 ? '/24' : '/64 nodad';
    await client.ip(`address add ${clientIp[family]}${length} dev eth0`);
    await host.ip(`address add ${own[family]}${length} dev eth0`);
  }
  await host.ip(`address add ${second}/24 dev eth0`);
  await lab.cable(host, 'weft0', inside, 'weft0');
  await inside.ip(`link set weft0 address ${macs.weftMac}`);
  for (const { host: gateway, weft, prefixLength } of [transit.ip4, transit.ip6]) {
    const isV4 = !weft.includes(':');
    await inside.ip(`address add ${weft}/${prefixLength} dev weft0${isV4 ? '' : ' nodad'}`);
    await inside.ip(`${isV4 ? '-4' : '-6'} route add default via ${gateway}`);
    await inside.ip(`neighbor replace ${gateway} lladdr ${macs.hostMac} dev weft0 nud permanent`);
  }
  // The strictest setting that hosts have.
  await host.run(['sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1']);
  return { lab, client, host, inside, opener: startOpener(host) };
}

/** A TCP server that tells each client its address, and then repeats what it receives. */
async function tellPeer(at: Namespace, port: number): Promise<Background> {
  const server = at.start(python('tell_peer.py', port));
  await server.says('ready');
  return server;
}

/**
 * The client's address as the server at the other end sees it; undefined without an answer. Nothing is sent, and the
 * server ends the connection when it has seen the end of the input.
 */
async function seenAs(from: Namespace, ip: string, port: number): Promise<string | undefined> {
  const server = `TCP:${bracketed(ip)}:${port},connect-timeout=0.5`;
  const { code, stdout } = await from.attempt(['socat', '-t', '30', '-', server]);
  return code === 0 && stdout !== '' ? stdout.split('\n')[0] : undefined;
}

/** Is a UDP request answered? */
const isAnswered = async (from: Namespace, ip: string, port: number): Promise<boolean> =>
  (await from.attempt(python('udp_ask.py', ip, port, 1))).code === 0;

/** How many packets a rule with this comment has counted. */
async function counted(host: Namespace, comment: string): Promise<number> {
  const rules = await host.run(['nft', 'list', 'table', 'inet', 'weft']);
  const found = [...rules.matchAll(/counter packets (\d+) .*comment "([^"]+)"/g)].filter(
    ([, , text]) => text === comment,
  );
  return found.reduce((sum, [, packets]) => sum + Number(packets), 0);
}

const tcp = (hostPort: number, hostIp?: string): PublishedPort[] =>
  families
    .filter((family) => hostIp === undefined || (family === 6) === hostIp.includes(':'))
    .map((family) => ({ family, protocol: 'TCP', hostPort, ...(hostIp !== undefined && { hostIp }) }));
const udp = (hostPort: number): PublishedPort[] => families.map((family) => ({ family, protocol: 'UDP', hostPort }));

t.test('out: masqueraded as the host, answered, and only from the transit address', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(client, 7000);
  await client.start(python('udp_answer.py', 7001)).says('ready');
  await opener.do({ op: 'open' });
  for (const family of families) {
    t.equal(await seenAs(inside, clientIp[family], 7000), own[family], `TCP over IPv${family}`);
    t.ok(await isAnswered(inside, clientIp[family], 7001), `UDP over IPv${family}`);
    await ping(inside, clientIp[family]);
  }
  t.equal(await counted(host, 'not from the transit address'), 0);
  // For IPv4, rp_filter already does that.
  await inside.ip('address add 2001:db8:99::1/128 dev lo nodad');
  await inside.attempt(['ping', '-c', '1', '-W', '0.3', '-I', '2001:db8:99::1', clientIp[6]]);
  t.equal(await counted(host, 'not from the transit address'), 1, 'another source is dropped');
});

t.test('no container gets what is meant for a program of the host', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await host.start(python('udp_answer.py', 51820)).says('ready');
  await opener.do({ op: 'open' });
  for (const family of families) {
    await inside.run(['socat', '-u', '-', `UDP:${bracketed(clientIp[family])}:51820,sourceport=51820`], {
      input: 'from the same port',
    });
    const peer = client.start(['socat', '-', `UDP:${bracketed(own[family])}:51820,sourceport=51820`]);
    peer.write('question\n');
    await peer.says('noitseuq');
    await peer.stop();
    t.pass(`IPv${family}`);
  }
});

/**
 * The host's connections that begin at weft's end, in the kernel's words: `PROTOCOL SECONDS-LEFT … sport=… dport=…`.
 */
async function connectionsOf(host: Namespace): Promise<string[]> {
  const all = await host.run(['cat', '/proc/net/nf_conntrack']);
  const ips = families.map((family) => parseIp(weftIp[family]));
  const isOfWeft = (line: string): boolean => {
    const source = /src=(\S+)/.exec(line)?.[1];
    return source !== undefined && ips.some((ip) => sameBytes(ip, parseIp(source)));
  };
  return all.split('\n').filter((line) => isOfWeft(line));
}

t.test('the host keeps weft’s ports, and remembers as long as weft does', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(client, 7000);
  for (const port of [7001, 53]) await client.start(python('udp_answer.py', port)).says('ready');
  await opener.do({ op: 'open' });
  for (const family of families) {
    const at = bracketed(clientIp[family]);
    const tcpSide = inside.start(['socat', '-', `TCP:${at}:7000,sourceport=${5500 + family}0`]);
    await tcpSide.says(own[family]);
    for (const [port, last] of [
      [7001, 1],
      [53, 2],
    ]) {
      const udpSide = inside.start(['socat', '-', `UDP:${at}:${port},sourceport=${5500 + family}${last}`]);
      udpSide.write('question\n');
      await udpSide.says('noitseuq');
    }
    inside.start(['socat', '-u', '/dev/zero,readbytes=1', `UDP:${at}:7002,sourceport=${5500 + family}3`]);
  }
  const found = await until(
    async () => {
      const lines = await connectionsOf(host);
      return lines.length === 8 ? lines : undefined;
    },
    { what: 'all connections' },
  );
  for (const line of found) {
    const [, secondsLeft, port] = /(?:tcp|udp) +\d+ (\d+) .*?sport=(\d+)/.exec(line)!.map(Number);
    t.match(line, new RegExp(`dport=${port} `), 'the port outside is the same');
    const byLastDigit: Readonly<Record<number, number>> = { 0: 7440, 1: 120, 2: 30, 3: 120 };
    const promised = byLastDigit[port! % 10]!;
    t.ok(secondsLeft! <= promised && secondsLeft! > promised - 25, `${secondsLeft} s of ${promised} s: ${line}`);
  }
});

t.test('connections outlive an uplink that goes down and up, whoever speaks first', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await host.run(['sysctl', '-qw', 'net.ipv6.conf.eth0.keep_addr_on_down=1']);
  await opener.do({ op: 'open' });
  for (const family of families) {
    const at = bracketed(clientIp[family]);
    const server = client.start(['socat', '-', `TCP${family}-LISTEN:7000,reuseaddr`]);
    const datagrams = client.start(['socat', '-', `UDP${family}-LISTEN:7001`]);
    const connect = `TCP:${at}:7000,sourceport=${5500 + family}0,retry=100,interval=0.1`;
    const ends = [
      { there: server, here: inside.start(['socat', '-', connect]) },
      { there: datagrams, here: inside.start(['socat', '-', `UDP:${at}:7001,sourceport=${5500 + family}1`]) },
    ];
    await until(async () => (await client.run(['ss', '-ulnH', 'sport = :7001'])) !== '', { what: 'UDP server' });
    for (const { there, here } of ends) {
      here.write('up\n');
      await there.says('up');
    }
    t.not((await connectionsOf(host)).length, 0);
    await host.ip('link set eth0 down');
    await until(async () => (await connectionsOf(host)).length === 0, { what: 'the kernel to forget all of them' });
    await host.ip('link set eth0 up');
    for (const { there, here } of ends) {
      there.write('from outside\n');
      await here.says('from outside');
      here.write('from inside\n');
      await there.says('from inside');
      t.equal(there.lines.length, 2);
      for (const end of [here, there]) await end.stop();
    }
  }
});

t.test(
  'what the kernel calls invalid is for the connection’s end to judge, and never answered by the host',
  {
    skip: needsRoot,
  },
  async (t) => {
    const { client, host, inside, opener } = await place(t);
    await tellPeer(client, 7000);
    await opener.do({ op: 'open' });
    const setUp = `add table inet seen; add chain inet seen in { type filter hook prerouting priority -300; };
    add rule inet seen in tcp sport 55000-65000 tcp flags rst counter`;
    await client.run(['nft', setUp]);
    const [dstMac] = (JSON.parse(await host.ip('-j link show eth0')) as [{ address: string }]).map(
      (link) => link.address,
    );
    const diverted = 'invalid to the kernel: weft judges';
    for (const family of families) {
      const ends: Ends = { srcMac: '02:00:00:00:00:09', dstMac: dstMac!, src: clientIp[family], dst: own[family] };
      // Spread over all sequence and acknowledgment numbers, since those of the connection are not known here.
      const quarters = [0, 1 << 30, 2 ** 31, 3 * 2 ** 30];
      const outOfWindow = (destinationPort: number): Uint8Array[] =>
        quarters.flatMap((sequence) =>
          quarters.map((acknowledgment) =>
            frame(ends, { sourcePort: 7000, destinationPort, flags: 16, sequence, acknowledgment }),
          ),
        );
      const connection = inside.start([
        'socat',
        '-',
        `TCP:${bracketed(clientIp[family])}:7000,sourceport=${5500 + family}0`,
      ]);
      await connection.says(own[family]);
      const before = await counted(host, diverted);
      await sendFrames(client, outOfWindow(Number(`${5500 + family}0`)));
      await until(async () => (await counted(host, diverted)) > before, { what: 'segments that are invalid' });
      connection.write('still there?\n');
      await connection.says('still there?');

      const judged = await counted(host, diverted);
      const ofHost = host.start(['socat', '-', `TCP:${bracketed(clientIp[family])}:7000,sourceport=${6000 + family}0`]);
      await ofHost.says(own[family]);
      await sendFrames(client, outOfWindow(Number(`${6000 + family}0`)));
      ofHost.write('and mine?\n');
      await ofHost.says('and mine?');
      t.equal(await counted(host, diverted), judged, 'what is for a program of the host stays there');
    }
    t.notMatch(await client.run(['nft', 'list', 'table', 'inet', 'seen']), /packets [1-9]/, 'no RST');

    // A ping that is answered after the kernel has forgotten it.
    await inside.run([
      'nft',
      setUp.replace('tcp sport 55000-65000 tcp flags rst', 'icmp type echo-reply icmp id 55555'),
    ]);
    const reply = ip(
      { srcMac: '02:00:00:00:00:09', dstMac: dstMac!, src: clientIp[4], dst: own[4] },
      1,
      buildIcmp4({ type: 0, code: 0, body: buildEchoBody(55_555, 1, new Uint8Array(8)) }),
    );
    await sendFrames(client, [reply]);
    const arrived = async (): Promise<boolean> => /packets 1 /.test(await inside.run(['nft', 'list', 'ruleset']));
    await until(arrived, { what: 'the reply at weft’s end' });
  },
);

t.test('ports of the range are the host’s, too: its programs, and what is closed', { skip: needsRoot }, async (t) => {
  const { client, host, opener } = await place(t);
  await host.start(python('udp_answer.py', 60_000)).says('ready');
  await tellPeer(host, 60_001);
  await opener.do({ op: 'open' });
  for (const family of families) {
    t.ok(await isAnswered(client, own[family], 60_000), `UDP over IPv${family}`);
    t.equal(await seenAs(client, own[family], 60_001), clientIp[family], 'TCP');
    const closed = await client.attempt(['socat', '-u', '-', `TCP:${bracketed(own[family])}:60002`]);
    t.match(closed.stderr, /Connection refused/, 'a closed port refuses');
  }
});

t.test('in: only what is published, from the client’s own address', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(inside, 8080);
  await tellPeer(inside, 8081);
  await inside.start(python('udp_answer.py', 5300)).says('ready');
  await opener.do({ op: 'open', published: [...tcp(8080), ...udp(5300), ...tcp(8081, second)] });

  for (const family of families) {
    t.equal(await seenAs(client, own[family], 8080), clientIp[family], `from another machine, IPv${family}`);
    t.equal(await seenAs(host, own[family], 8080), own[family], `from this host, IPv${family}`);
    t.ok(await isAnswered(client, own[family], 5300), `UDP over IPv${family}`);
    // A container that calls it goes through the host and back into weft0.
    t.equal(await seenAs(inside, own[family], 8080), transit[`ip${family}`].host, `from inside, IPv${family}`);
  }
  t.equal(await seenAs(client, second, 8081), clientIp[4], 'on one address of the host');
  t.equal(await seenAs(client, own[4], 8081), undefined, 'and on no other');
  t.equal(await seenAs(host, '127.0.0.1', 8080), undefined, 'not on the loopback');
  t.equal(await seenAs(host, '::1', 8080), undefined, 'of neither family');

  for (const family of families) {
    await client.ip(`route add ${weftIp[family]} via ${own[family]}`);
    t.ok(await isUnreachable(client, weftIp[family]), `no way around, IPv${family}`);
    t.equal(await seenAs(client, weftIp[family], 8080), undefined, 'for published ports neither');
  }
  t.ok((await counted(host, 'not published')) > 0);
});

t.test('nothing leaves untranslated, and errors about connections pass', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await opener.do({ op: 'open', published: udp(5300) });
  for (const family of families) {
    const asker = client.start(['socat', '-', `UDP:${bracketed(own[family])}:5300`]);
    asker.write('is anybody there?\n');
    await asker.wait();
    t.match(asker.stderr, /Connection refused/, `port unreachable over ICMP, IPv${family}`);
  }
  t.equal(await counted(host, 'would not be translated'), 0);

  await client.run([
    'nft',
    `add table inet seen; add chain inet seen in { type filter hook prerouting priority 0; };
     add rule inet seen in ip saddr ${weftIp[4]} counter; add rule inet seen in ip6 saddr ${weftIp[6]} counter`,
  ]);
  const { weftMac: srcMac, hostMac: dstMac } = macs;
  const frames = families.map((family) =>
    frame(
      { srcMac, dstMac, src: weftIp[family], dst: clientIp[family] },
      { sourcePort: 7, destinationPort: 7, flags: SYN_FIN },
    ),
  );
  await sendFrames(inside, frames, 'weft0');
  for (const family of families) await ping(inside, clientIp[family]);
  t.notMatch(await client.run(['nft', 'list', 'table', 'inet', 'seen']), /packets [1-9]/);
  t.equal(await counted(host, 'would not be translated'), 2);
});

t.test('containers reach nothing of the host, but answers', { skip: needsRoot }, async (t) => {
  const { host, inside, opener } = await place(t);
  for (const port of [22, 5353]) await tellPeer(host, port);
  await opener.do({ op: 'open' });
  const comment = 'containers reach nothing of this host';
  const before = await counted(host, comment);
  const ofHost = families.flatMap((family) => [own[family], transit[`ip${family}`].host]);
  t.same(
    await Promise.all(ofHost.map((ip) => seenAs(inside, ip, 22))),
    ofHost.map(() => undefined),
    'by TCP',
  );
  t.same(
    await Promise.all(ofHost.map((ip) => isUnreachable(inside, ip))),
    ofHost.map(() => true),
    'by ping',
  );
  for (const family of families) await ping(host, weftIp[family]);
  t.ok((await counted(host, comment)) >= before + 8, 'and that is counted');

  await opener.do({ op: 'open', allowHost: [{ protocol: 'TCP', port: 5353 }] });
  t.equal(await seenAs(inside, own[4], 5353), weftIp[4], 'what is allowed');
  t.equal(await seenAs(inside, own[4], 22), undefined, 'and nothing else');
  await opener.do({ op: 'open', allowHost: true });
  t.equal(await seenAs(inside, own[6], 22), weftIp[6], 'or everything');
});

t.test('the metadata service of a cloud is for the host', { skip: needsRoot }, async (t) => {
  const metadata = 'fd00:ec2::254';
  const { client, host, inside, opener } = await place(t);
  await client.ip(`address add ${metadata}/128 dev lo nodad`);
  await host.ip(`route add ${metadata} via ${clientIp[6]}`);
  await opener.do({ op: 'open' });
  await ping(host, metadata);
  t.ok(await isUnreachable(inside, metadata));
  t.ok((await counted(host, 'metadata of a cloud is the host’s')) > 0);
  await opener.do({ op: 'open', allowHost: true });
  await ping(inside, metadata);
});

t.test('no frame of an overlay gets in or through', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  for (const at of [client, host]) await at.start(python('udp_answer.py', 4789)).says('ready');
  await opener.do({ op: 'open', allowHost: true });
  for (const family of families) t.ok(await isAnswered(client, own[family], 4789), 'hosts reach each other');
  const hosts = families.flatMap((family) => [own[family], clientIp[family]]);
  const asking = hosts.map((ip) => inside.start(python('udp_ask.py', ip, 4789, 1)));
  const dropped = (): Promise<number> => counted(host, 'containers make no frames of an overlay');
  await until(async () => (await dropped()) === hosts.length, { what: 'every question dropped' });
  t.ok(
    asking.every(({ pid }) => isAlive(pid)),
    'none is answered',
  );
  for (const one of asking) await one.stop();
});

t.test('published ports change under connections, which go on', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  for (const port of [8080, 8081]) await tellPeer(inside, port);
  await opener.do({ op: 'open', published: tcp(8080) });
  const connection = client.start(['socat', '-', `TCP:${own[4]}:8080`]);
  await connection.says(clientIp[4]);
  await opener.do({ op: 'update', published: tcp(8081) });
  connection.write('still there?\n');
  await connection.says('still there?');
  t.equal(await seenAs(client, own[4], 8080), undefined, 'but no new ones');
  t.equal(await seenAs(client, own[4], 8081), clientIp[4]);
  await opener.do({ op: 'update', published: [...tcp(8080), ...tcp(8081)] });
  t.equal(await seenAs(client, own[4], 8080), clientIp[4]);
  await opener.do({ op: 'update', published: [] });
  t.equal(await seenAs(client, own[4], 8081), undefined);
  connection.write('and now?\n');
  await connection.says('and now?');
  t.match(await host.run(['nft', 'list', 'sets']), /published4 \{/);
});

t.test('UDP that never pauses follows what is published', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  const sinks = {
    host: host.start(python('udp_probe_sink.py', 5300)),
    inside: inside.start(python('udp_probe_sink.py', 5300)),
  };
  for (const sink of Object.values(sinks)) await sink.says('ready');
  await opener.do({ op: 'open' });
  for (const family of families) client.start(python('udp_probe.py', own[family], 5300));
  // To the same port, but of another host.
  await client.start(python('udp_answer.py', 5300)).says('ready');
  const session = inside.start(['socat', '-', `UDP:${clientIp[4]}:5300`]);
  session.write('one\n');
  await session.says('eno');

  /** From some time on, all probes arrive at one of them. */
  const comeTo = async (where: keyof typeof sinks, what: string): Promise<void> => {
    const other = sinks[where === 'host' ? 'inside' : 'host'];
    let [since, stays] = [0, -1];
    const isSettled = (): boolean => {
      if (other.lines.length !== stays) [since, stays] = [sinks[where].lines.length, other.lines.length];
      return sinks[where].lines.length >= since + 50;
    };
    await until(isSettled, { timeoutMs: 20_000, what });
    t.pass(what);
  };
  await comeTo('host', 'not published yet');
  await opener.do({ op: 'update', published: udp(5300) });
  await comeTo('inside', 'published');
  await host.run(['nft', 'flush', 'ruleset']);
  await opener.do({ op: 'renew' });
  await comeTo('inside', 'and again, after the rules were gone');
  session.write('two\n');
  await session.says('owt');
  await opener.do({ op: 'update', published: [] });
  await comeTo('host', 'not published any more');
  await opener.do({ op: 'update', published: udp(5300) });
  await comeTo('inside', 'published');
  await opener.do({ op: 'close' });
  await comeTo('host', 'no outside any more');
});

t.test('what others have set up stays, and what a crash left is replaced', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(client, 7000);
  await host.run(['nft', 'add table ip other; add chain ip other c { type filter hook forward priority 10; }']);
  const others = await host.run(['nft', 'list', 'table', 'ip', 'other']);
  await opener.do({ op: 'open', published: tcp(8080) });
  const rules = await host.run(['nft', '-s', 'list', 'table', 'inet', 'weft']);
  opener.process.signal('SIGKILL');
  await opener.process.wait(2000);
  await host.run(['nft', 'add rule inet weft forward drop']);
  await host.ip('address add 10.98.0.1/24 dev weft0');

  const again = startOpener(host);
  await again.do({ op: 'open', published: tcp(8080) });
  t.equal(await host.run(['nft', '-s', 'list', 'table', 'inet', 'weft']), rules, 'the same table');
  t.notMatch(await host.ip('address show dev weft0'), '10.98.0.1', 'and the same addresses');
  t.equal(await seenAs(inside, clientIp[4], 7000), own[4]);
  await again.do({ op: 'close' });
  t.equal(await host.run(['nft', 'list', 'ruleset']), others, 'nothing of weft is left, all of others is');
  t.equal((await host.run(['sysctl', '-n', 'net.ipv4.ip_forward'])).trim(), '1', 'forwarding stays on');
});

t.test('what another program takes away is put back', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(inside, 8081);
  await opener.do({ op: 'open', published: tcp(8080) });
  await opener.do({ op: 'update', published: [...tcp(8081), ...udp(5300), ...udp(5301)] });
  t.same(await opener.do({ op: 'renew' }), { renewed: [] });
  const rules = await ruleset(host);
  for (const damage of [
    'flush ruleset',
    'flush table inet weft',
    'flush set inet weft published4',
    'flush chain inet weft from_weft',
    'insert rule inet weft input accept',
  ]) {
    await host.run(['nft', damage]);
    t.match(await opener.inspect(), { open: { rules: [/^table inet weft is not as it was loaded$/] } }, damage);
    t.same(await opener.do({ op: 'renew' }), { renewed: ['table inet weft is not as it was loaded'] });
    t.equal(await ruleset(host), rules, 'what is published now, too');
    t.equal((await opener.inspect()).open?.rules.length, 0);
  }
  const mended = async (damage: string, said: RegExp): Promise<void> => {
    const { open } = await opener.inspect();
    t.match(open?.link.join(), said, `${damage}: told`);
    t.equal(open?.rules.length, 0);
    t.match(await opener.do({ op: 'renew' }), { renewed: [said] });
    t.equal((await opener.inspect()).open?.link.length, 0);
    t.same(await opener.do({ op: 'renew' }), { renewed: [] });
    for (const family of families) t.equal(await seenAs(client, own[family], 8081), clientIp[family], damage);
  };
  for (const [damage, said] of [
    ['link set weft0 down', /weft0 is down/],
    ['link set weft0 address 02:de:ad:00:00:01', /weft0 has MAC 02:de:ad:00:00:01, not 02:77:65:00:00:01/],
    ['link set weft0 mtu 1400', /weft0 has MTU 1400, not 1500/],
    ['address flush dev weft0', /weft0 has no address 169\.254\.77\.1\/30/],
    ['address del 169.254.77.1/30 dev weft0', /weft0 has no address 169\.254\.77\.1\/30/],
    ['address del fd77:6566:7430::1/126 dev weft0', /weft0 has no address fd77:6566:7430::1\/126/],
    ['neighbor del 169.254.77.2 dev weft0', /weft0 has no permanent neighbor 169\.254\.77\.2/],
    ['neighbor replace fd77:6566:7430::2 lladdr 02:00:00:00:00:07 dev weft0 nud permanent', /neighbor fd77:6566/],
  ] as const) {
    await host.ip(damage);
    await mended(damage, said);
  }
  for (const [setting, said] of [
    ['net.ipv4.conf.weft0.forwarding=0', /net\.ipv4\.conf\.weft0\.forwarding is 0, not 1/],
    ['net.ipv6.conf.weft0.accept_ra=1', /net\.ipv6\.conf\.weft0\.accept_ra is 1, not 0/],
  ] as const) {
    await host.run(['sysctl', '-qw', setting]);
    await mended(setting, said);
  }
  // That switches the forwarding of every interface off, too.
  await host.run(['sysctl', '-qw', 'net.ipv4.ip_forward=0']);
  t.same((await opener.inspect()).forwarding, { ip4: false, ip6: true });
  await opener.do({ op: 'renew' });
  t.same((await opener.inspect()).forwarding, { ip4: true, ip6: true });
  t.same(await opener.do({ op: 'renew' }), { renewed: [] });
  t.equal(await seenAs(client, own[4], 8081), clientIp[4], 'forwarding');
});

t.test('what is taken away as soon as it is loaded is not taken for what was', { skip: needsRoot }, async (t) => {
  const { lab, host } = await place(t);
  const bin = join(lab.directory, 'bin');
  mkdirSync(bin);
  const nft = (await host.run(['sh', '-c', 'command -v nft'])).trim();
  const flushed = join(lab.directory, 'flushed');
  const flushing = `#!/bin/sh
${nft} "$@" || exit
case "$*" in *"-f -") mkdir ${flushed} 2>/dev/null && ${nft} flush table inet weft ;; esac
exit 0
`;
  writeFileSync(join(bin, 'nft'), flushing);
  chmodSync(join(bin, 'nft'), 0o755);
  const opener = startOpener(host, ['env', `PATH=${bin}:${process.env['PATH']}`, ...command]);
  await opener.do({ op: 'open' });
  t.match(await opener.inspect(), { open: { rules: [/^table inet weft is not as it was loaded$/] } });
  t.same(await opener.do({ op: 'renew' }), { renewed: ['table inet weft is not as it was loaded'] });
  t.equal((await opener.inspect()).open?.rules.length, 0);
  t.same(await opener.do({ op: 'renew' }), { renewed: [] });
  await opener.do({ op: 'update', published: udp(5300) });
  t.equal((await opener.inspect()).open?.rules.length, 0);
});

t.test('a port is published also where the table was taken away', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(inside, 8080);
  await opener.do({ op: 'open' });
  for (const damage of ['flush ruleset', 'flush table inet weft']) {
    await host.run(['nft', damage]);
    await opener.do({ op: 'update', published: tcp(8080) });
    t.equal(await seenAs(client, own[4], 8080), clientIp[4], damage);
    t.same(await opener.do({ op: 'renew' }), { renewed: [] });
    await opener.do({ op: 'update', published: [] });
  }
});

t.test('forwarding is switched on once, and router advertisements are still taken', { skip: needsRoot }, async (t) => {
  const { host, opener } = await place(t);
  const setting = async (name: string): Promise<string> => (await host.run(['sysctl', '-n', `net.${name}`])).trim();
  await host.run(['sysctl', '-qw', 'net.ipv6.conf.eth0.accept_ra=1']);
  t.same((await opener.inspect()).forwarding, { ip4: false, ip6: false });
  await opener.do({ op: 'open' });
  t.same(
    opener.said().flatMap(({ log }) => log?.details.changed ?? []),
    ['net.ipv4.ip_forward=1', 'net.ipv6.conf.eth0.accept_ra=2', 'net.ipv6.conf.all.forwarding=1'],
  );
  t.same((await opener.inspect()).forwarding, { ip4: true, ip6: true });
  t.equal(await setting('ipv6.conf.weft0.accept_ra'), '0');
  t.equal(await setting('ipv6.conf.weft0.addr_gen_mode'), '1', 'no link-local address');
  t.notMatch(await host.ip('-6 address show dev weft0'), 'fe80');
  const logged = (): number => opener.said().filter(({ log }) => log).length;
  const before = logged();
  await opener.do({ op: 'open' });
  t.equal(logged(), before, 'nothing more is said of it');
});

t.test('a host without IPv6 has an outside of IPv4', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(client, 7000);
  await host.run(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1']);
  t.same(await opener.do({ op: 'open', published: tcp(8080) }), { hasIp6: false });
  t.equal(await seenAs(inside, clientIp[4], 7000), own[4]);
  t.notMatch(await host.run(['nft', 'list', 'table', 'inet', 'weft']), 'published6');
  await opener.do({ op: 'update', published: tcp(8081) });
  t.same((await opener.inspect()).forwarding, { ip4: true });
});

t.test('a chain of another that drops, and a network in the way, are found', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(client, 7000);
  await opener.do({ op: 'open' });
  t.same(await opener.inspect(), {
    ...{ open: { rules: [], link: [] }, forwarding: { ip4: true, ip6: true }, droppingChains: [] },
  });
  const docker =
    'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }';
  await host.run(['nft', docker]);
  t.same((await opener.inspect()).droppingChains, ['ip filter FORWARD']);
  t.equal(await seenAs(inside, clientIp[4], 7000), undefined, 'and it is in the way indeed');
  await host.run(['nft', 'add chain ip filter INPUT { type filter hook input priority 0; policy drop; }']);
  t.same((await opener.inspect()).droppingChains, ['ip filter FORWARD'], 'of the host they may reach nothing anyway');
  await opener.do({ op: 'open', allowHost: [{ protocol: 'UDP', port: 53 }] });
  t.same((await opener.inspect()).droppingChains, ['ip filter FORWARD', 'ip filter INPUT'], 'or something');
  await opener.do({ op: 'close' });

  await host.ip('route add 169.254.0.0/16 dev eth0');
  t.equal((await opener.inspect()).clash, undefined, 'a wider route is not');
  await host.ip('route add 169.254.77.2/32 dev eth0');
  const why = /^the route to 169\.254\.77\.2 by eth0 is on weft’s link to the host \(169\.254\.77\.1\/30\)/;
  t.match(await opener.ask({ op: 'open' }), { error: { code: 'conflict', message: why } });
  await host.ip('route del 169.254.77.2/32');
  await host.ip('address add 169.254.77.3/16 dev eth0');
  const whose = /^address 169\.254\.77\.3\/16 of eth0 is on weft’s link /;
  t.match(await opener.ask({ op: 'open' }), { error: { code: 'conflict', message: whose } });
  t.match((await opener.inspect()).clash, whose);
  t.equal(await host.run(['nft', 'list', 'tables']), 'table ip filter\n', 'and no rules are left');
});

t.test('without nft, or with a kernel that refuses, it says what to do', { skip: needsRoot }, async (t) => {
  const { lab, host } = await place(t);
  const bin = join(lab.directory, 'bin');
  mkdirSync(bin);
  for (const name of ['ip', 'nsenter']) {
    const path = (await host.run(['sh', '-c', `command -v ${name}`])).trim();
    await host.run(['ln', '-s', path, join(bin, name)]);
  }
  const opener = startOpener(host, ['env', `PATH=${bin}`, ...command]);
  t.same(await opener.ask({ op: 'open' }), {
    error: {
      code: 'system',
      message: '`nft` is not installed, and a network with an outside needs it: `apt install nftables`',
    },
  });
  t.match((await opener.inspect()).nftFailure, /is not installed/);
  t.notOk(
    opener.said().some(({ opened }) => opened !== undefined),
    'without rules it is not opened',
  );
  t.equal((await host.run(['sysctl', '-n', 'net.ipv4.ip_forward'])).trim(), '0', 'and nothing else was changed');

  writeFileSync(
    join(bin, 'nft'),
    '#!/bin/sh\necho "/dev/stdin:9:1-2: Error: Could not process rule: Operation not supported" >&2\nexit 1\n',
  );
  chmodSync(join(bin, 'nft'), 0o755);
  t.match(await opener.ask({ op: 'open' }), {
    error: {
      code: 'system',
      message: /^`nft -e -a -f -` failed: Could not process rule: .*; the kernel needs nf_tables/,
    },
  });
});

for (const datapath of ['native', 'reference'] as const) {
  t.test(`a TAP of the ${datapath} datapath in its own namespace`, { skip: needsRoot }, async (t) => {
    const host = await openLab(t).namespace('host');
    const first = startOpener(host);
    t.same(await first.do({ op: 'open', datapath }), { created: true, hasIp6: true });
    const [link] = JSON.parse(await host.ip('-j -d address show dev weft0')) as [Record<string, unknown>];
    t.match(link, { address: macs.hostMac, mtu: 1500, linkinfo: { info_kind: 'tun' } });
    t.match(
      await host.ip('address show dev weft0'),
      /169\.254\.77\.1\/30 scope link[^]*fd77:6566:7430::1\/126 scope global/,
    );
    t.match(await host.ip('neighbor show'), `${transit.ip4.weft} dev weft0 lladdr ${macs.weftMac} PERMANENT`);
    first.process.signal('SIGKILL');
    await first.process.wait(2000);
    t.same(await host.links(), ['weft0'], 'a crash leaves it');
    await host.run(['nft', 'flush', 'ruleset']);

    const again = startOpener(host);
    t.same(await again.do({ op: 'open', datapath }), { created: false, hasIp6: true }, 'it is taken over');
    const behind = again.said().find(({ opened }) => opened !== undefined)?.opened;
    t.match(behind, /chain input {[^]*containers reach nothing of this host/, 'behind rules that are new');

    const rules = await host.run(['nft', '-s', 'list', 'ruleset']);
    t.match(await startOpener(host).ask({ op: 'open', datapath }), {
      error: { code: 'conflict', message: 'weft0 is open already: another weft runs on this host' },
    });
    t.equal(await host.run(['nft', '-s', 'list', 'ruleset']), rules, 'of another process nothing is touched');
    t.same(await startOpener(host).do({ op: 'removeLeft' }), { removed: false }, 'nor where it wants none');
    t.equal(await host.run(['nft', '-s', 'list', 'ruleset']), rules);
    t.same(await host.links(), ['weft0']);
    await again.do({ op: 'close' });
    t.same(await host.links(), []);
    t.equal(await host.run(['nft', 'list', 'ruleset']), '');

    await again.do({ op: 'open', datapath });
    again.process.signal('SIGKILL');
    await again.process.wait(2000);
    const last = startOpener(host);
    t.same(await last.do({ op: 'removeLeft' }), { removed: true }, 'what a crash leaves, and nobody wants');
    t.same(await host.links(), []);
    t.equal(await host.run(['nft', 'list', 'ruleset']), '');
    t.same(await last.do({ op: 'removeLeft' }), { removed: false });
  });
}
