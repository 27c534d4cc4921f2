/** The host's side of the outside, with real packets: what leaves, and what containers reach. It is drawn in place.ts. */
import t from 'tap';
import { parseIp, sameBytes } from '../../src/flow/types.ts';
import { transit } from '../../src/outside/link.ts';
import { buildEchoBody, buildIcmp4 } from '../../src/wire/icmp.ts';
import type { Namespace } from '../support/lab.ts';
import { isAlive, until } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { ip, tcp as frame, type Ends } from '../support/frames.ts';
import { isUnreachable, ping, python, sendFrames } from '../support/traffic.ts';
import { macs } from './outside.process.ts';
import {
  own,
  clientIp,
  weftIp,
  families,
  bracketed,
  place,
  tellPeer,
  seenAs,
  isAnswered,
  counted,
  udp,
} from './place.ts';

/** Flags that no TCP connection begins with, nor continues with. */
const SYN_FIN = 3;

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

t.setTimeout(600_000);
// Most of the time it waits for packets that must not come.
t.jobs = 3;

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
