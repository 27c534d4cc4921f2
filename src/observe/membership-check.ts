/** Checks of this host among others: that it is not cut off from all; of a shared store, that it is registered, and that all have in force what it has. */
import { unknownText } from '../model/in-force.ts';
import type { CheckReport, HostInForceReport, HostReport, SharedStoreReport, StatusReport } from '../model/report.ts';

/** Whatever else is said of others then, one by one, may be because of this host. */
export function checkCutOff(hosts: readonly HostReport[], store: SharedStoreReport | undefined): CheckReport[] {
  const probed = hosts.filter(({ state }) => state !== 'unprobed');
  // One peer alone may well have died.
  const isEnough = store ? !store.reachable && probed.length > 0 : probed.length > 1;
  if (!isEnough || probed.some(({ state }) => state === 'up')) return [];
  const peers = probed.length === 1 ? 'its only peer' : `any of its ${probed.length} peers`;
  return [
    {
      check: 'this host',
      result: 'failed',
      detail: `it may be cut off: nothing is heard from ${store ? `the store or ${peers}` : peers}`,
      hint: 'see its own underlay first: the interface, its address, the cable, a firewall',
    },
  ];
}

export function checkMembership({
  registration,
  inForce,
}: Pick<StatusReport, 'registration' | 'inForce'>): CheckReport[] {
  if (!registration || !inForce) return [];
  const unknown = unknownText(inForce.hosts);
  return [
    checkRegistration(registration),
    ...(unknown === undefined ? [] : [{ check: 'in force', result: 'warning', detail: unknown } as const]),
    ...inForce.hosts.flatMap(checkHost),
  ];
}

function checkRegistration({ state, why }: NonNullable<StatusReport['registration']>): CheckReport {
  const check = 'registration';
  switch (state) {
    case 'registered':
      return { check, result: 'ok', detail: 'the store has this host, and other hosts know that it runs' };
    case 'waiting':
      return {
        check,
        result: 'warning',
        detail: `waiting: ${why}`,
        hint: 'this host goes on with what it knows meanwhile',
      };
    case 'refused':
      return {
        check,
        result: 'failed',
        detail: why ?? 'refused',
        hint: 'this host goes on with what it knows, and writes nothing, until that is mended',
      };
    default:
      return state satisfies never;
  }
}

function checkHost({ host, state, isLive, behind, since }: HostInForceReport): CheckReport[] {
  const check = `host ${host}`;
  const when = since === undefined ? '' : ` since ${since}`;
  switch (state) {
    case 'in force':
    case 'unknown':
      return [];
    case 'lagging': {
      const how = behind === undefined ? 'has not said what it has in force' : `is ${behind} revisions behind this one`;
      return [{ check, result: 'warning', detail: `it ${how}`, hint: 'if that stays so, `weft doctor` there' }];
    }
    case 'cut off':
      return [
        {
          check,
          result: 'warning',
          detail: `it is cut off from the store${when}, and forwards by what it knew then`,
          hint: '`weft doctor` there says why',
        },
      ];
    case 'down':
      if (isLive) {
        const hint = `the network between both hosts, and \`weft doctor\` there`;
        return [
          { check, result: 'warning', detail: 'nothing is heard from it, but as far as the store says it runs', hint },
        ];
      }
      return [
        {
          check,
          result: 'warning',
          detail: `it does not run${when}`,
          hint: `if it does not come back: \`weft delete host ${host}\``,
        },
      ];
    default:
      return state satisfies never;
  }
}
