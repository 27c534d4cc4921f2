/**
 * The outside on a host where other programs are active: what is restored, left alone and reported. place.ts has a
 * drawing.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { transit } from '../../src/outside/link.ts';
import { openLab } from '../support/lab.ts';
import { needsRoot } from '../support/root.ts';
import { ruleset } from '../support/ruleset.ts';
import { macs } from './outside.process.ts';
import { command, startOpener, own, clientIp, families, place, tellPeer, seenAs, tcp, udp } from './place.ts';

t.setTimeout(600_000);
// Most of the time is spent waiting for packets that must not come.
t.jobs = 3;

t.test('what others have set up stays, and what a crash left is replaced', { skip: needsRoot }, async (t) => {
  const { client, host, inside, opener } = await place(t);
  await tellPeer(client, 7000);
  await host.run(['nft', 'add table ip other; add chain ip other c { type filter hook forward priority 10; }']);
  const others = await host.run(['nft', 'list', 'table', 'ip', 'other']);
  await opener.do({ op: 'open', published: tcp(8080) });
  const rules = await host.run(['nft', '-s', 'list', 'table', 'inet', 'weft']);
  opener.process.signal('SIGKILL');
  await opener.process.wait();
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
  // This also switches off forwarding on every interface.
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
  const path = (await host.run(['sh', '-c', 'command -v ip'])).trim();
  await host.run(['ln', '-s', path, join(bin, 'ip')]);
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
    await first.process.wait();
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
    await again.process.wait();
    const last = startOpener(host);
    t.same(await last.do({ op: 'removeLeft' }), { removed: true }, 'what a crash leaves, and nobody wants');
    t.same(await host.links(), []);
    t.equal(await host.run(['nft', 'list', 'ruleset']), '');
    t.same(await last.do({ op: 'removeLeft' }), { removed: false });
  });
}
