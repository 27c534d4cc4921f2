/** Checks of this host as one of those that share a store: that it is registered, and that all have in force what it has. */
import type { CheckReport, HostInForceReport, SharedStoreReport, StatusReport } from '../model/report.ts';

export function checkMembership({
  registration,
  inForce,
  store,
}: Pick<StatusReport, 'registration' | 'inForce'> & {
  readonly store: SharedStoreReport | undefined;
}): CheckReport[] {
  if (!registration || !inForce) return [];
  // Nobody can say in a store that takes nothing what it has in force.
  const isTold = ({ state }: HostInForceReport): boolean => state !== 'lagging' || store?.takesNothing === undefined;
  return [checkRegistration(registration), ...inForce.hosts.filter(isTold).flatMap(checkHost)];
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
