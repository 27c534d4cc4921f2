/** The systemd unit: it grants what the daemon keeps, and starts it again whenever that can help. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { keptCapabilities, keptCapabilityNames } from '../../src/link/capabilities.ts';

const text = readFileSync(new URL('../../src/setup/weft.service', import.meta.url), 'utf8');
const settings = new Map([...text.matchAll(/^(\w+)=(.*)$/gm)].map(([, key = '', value = '']) => [key, value]));

t.test('its capabilities are those that the daemon keeps', (t) => {
  t.same(settings.get('CapabilityBoundingSet')?.split(' ').sort(), [...keptCapabilityNames].sort());
  t.equal(
    keptCapabilities,
    (1n << 1n) | (1n << 12n) | (1n << 13n) | (1n << 19n) | (1n << 21n) | (1n << 23n),
    'by their numbers',
  );
  t.equal(settings.get('NoNewPrivileges'), 'yes');
  t.match(settings.get('RestrictNamespaces'), /^net$/, 'it enters network namespaces');
  t.match(settings.get('DeviceAllow'), '/dev/net/tun rw');
  t.end();
});

t.test('probes may have a real-time priority', (t) => {
  t.equal(settings.has('RestrictRealtime'), false);
  t.end();
});

t.test('it is ready when it says so, watched, and reloaded by a takeover', (t) => {
  t.equal(settings.get('Type'), 'notify');
  t.equal(settings.get('NotifyAccess'), 'all', 'the process that has taken over says so itself');
  t.match(settings.get('WatchdogSec'), /^\d+s$/);
  t.equal(settings.get('ExecReload'), '/bin/kill -HUP $MAINPID');
  t.equal(settings.get('FileDescriptorStoreMax'), settings.get('LimitNOFILE'), 'whatever it may have open');
  t.end();
});

t.test('it is started again without end, except for a wrong configuration', (t) => {
  t.equal(settings.get('Restart'), 'on-failure');
  t.equal(settings.get('RestartPreventExitStatus'), '2');
  t.equal(settings.get('StartLimitIntervalSec'), '0');
  t.end();
});
