/** Work in network namespaces, by the addon: native/io/netns.h. */
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import { loadAddon } from './addon.ts';

export const exchangeWithNetns: ExchangeWithNetns = (exchanges) => loadAddon().netnsExchange(exchanges);
