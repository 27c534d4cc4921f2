/** `weft services`, and what `weft connections`, `why` and `trace` say of connections through services. */
import t from 'tap';
import { decisionText } from '../../src/cli/decision.ts';
import { choice, decision, service } from '../api/fake-switch.ts';
import { fixture } from './fixture.ts';

t.setTimeout(600_000);

t.test('services are listed, and one is shown with its backends', async (t) => {
  const { weft } = await fixture(t);
  const heads = 'NAME +ADDRESSES +PORTS +READY +CONNECTIONS +METHOD +AFFINITY';
  const row = String.raw`shop +10\.96\.0\.80 +80:30080/TCP +1/2 +12\.3k +maglev +ClientIP 3h0m`;
  const failed = String.raw`shop: backend 10\.0\.0\.4: ejected: no answer to 3 connections`;
  const list = (await weft(['services'])).stdout;
  t.match(list, new RegExp(`^${heads}\n${row}\n\n${failed}\n$`));
  t.equal((await weft(['services', '-A'])).stdout, list, 'all namespaces are the default');
  const wide = new RegExp(`^${heads} +EXTERNAL +POLICY [^]*\n${row} +- +Cluster +Local +none +30s\n`);
  t.match((await weft(['services', '-o', 'wide'])).stdout, wide);
  t.same(JSON.parse((await weft(['services', '-o', 'json'])).stdout), [service]);
  t.equal((await weft(['services', '-o', 'name'])).stdout, 'service/shop\n');
  t.match((await weft(['services', '-n', 'other'])).stdout, /^No services in namespace "other": /);

  const one = (await weft(['services', 'shop'])).stdout;
  t.match(one, /^Service: +shop\nAddresses: +10\.96\.0\.80\nPorts: +http 80:30080\/TCP\nMethod: +maglev\n/);
  t.match(one, /\nBACKEND +ADDRESS +PORTS +HOST +STATE +WEIGHT +CONNECTIONS +WHY\n/);
  t.match(one, /\ndefault\/db +10\.0\.0\.3 +8080 +a +ready +2 +12\.3k +-\n/);
  t.match(one, /\n10\.0\.0\.4 +10\.0\.0\.4 +- +b +ejected +1 +0 +no answer to 3 connections\n$/);
  t.match((await weft(['services', 'shop', '-o', 'wide'])).stdout, / NETWORK +ZONE +WHY\n[^]* blue +z1 +-\n/);
  t.same(JSON.parse((await weft(['services', 'default/shop', '-o', 'json'])).stdout), service);
  t.match((await weft(['services', 'shop', '-o', 'yaml'])).stdout, /^name: shop\n/);

  t.match(await weft(['services', 'none']), { code: 1, stderr: 'weft: there is no Service "none"\n' });
  t.match(await weft(['services', 'shop', '-A']), { code: 2, stderr: /give either NAME or -A/ });
  t.match(await weft(['services', 'a/shop', '-n', 'b']), { code: 2, stderr: /-n, which gives the namespace/ });
});

const chosen = `Backend of service default/shop, port http, 80/TCP, by maglev:
  -> default/db on a, 10.0.0.3:8080, weight 2: one of 2 candidates, by the hash of the connection
     default/other, [fd00::5]:8080, weight 1
     not 10.0.0.4 on b: it is ejected: no answer to 3 connections
`;

t.test('why a connection has its backend, and which one a trace finds', async (t) => {
  const { weft } = await fixture(t);
  t.equal(
    (await weft(['why', 'c4'])).stdout,
    `Connection c4: tcp, established
From: default/web 10.0.0.2:40001
Service: default/shop:http, 10.96.0.80:80
To: default/db 10.0.0.3:8080
Passed: 7 packets of 800 bytes, back 5 packets of 90.0k bytes

${chosen}`,
  );
  t.ok(decisionText({ ...decision, choice }).endsWith(`\n\n${chosen}`));
});
