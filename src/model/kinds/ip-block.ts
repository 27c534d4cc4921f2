/** Blocks of addresses in policies: a CIDR of either family, and what is left out of it. */
import * as z from 'zod';
import { addressText, addressValue, isAddress, isIp4, parseSubnet } from '../address.ts';
import { foreignObject } from './foreign.ts';
import { quote } from '../value.ts';

/** Any prefix of either family. As in Kubernetes, host bits mean nothing: the canonical text has none. */
export const policyCidr = z.string().transform((text, context) => {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${message}` });
    return z.NEVER;
  };
  const [address = '', lengthText, extra] = text.split('/');
  const isV4 = !address.includes(':');
  if (isAddress(address) && lengthText === undefined)
    return fail(`has no prefix length, did you mean ${text}/${isV4 ? 32 : 128}?`);
  if (!isAddress(address) || !/^(0|[1-9]\d{0,2})$/.test(lengthText!) || extra !== undefined)
    return fail('is not a CIDR like 10.0.0.0/8, 192.0.2.1/32 or 2001:db8::/32');
  const longest = isV4 ? 32 : 128;
  if (Number(lengthText) > longest) return fail(`has prefix length ${lengthText}: accepted are 0 to ${longest}`);
  if (!isV4 && isIp4(addressValue(address))) return fail('is IPv4-mapped: write it as an IPv4 CIDR');
  return `${addressText(parseSubnet(text).first)}/${lengthText}`;
});

export const ipBlock = foreignObject({
  cidr: policyCidr,
  except: z.array(policyCidr).nullable().optional(),
}).superRefine(({ cidr, except }, context) => {
  const of = parseSubnet(cidr);
  for (const [index, input] of (except ?? []).entries()) {
    const one = parseSubnet(input);
    // Of another family, it is outside as well.
    const isWithin = of.first <= one.first && one.last <= of.last && isIp4(of.first) === isIp4(one.first);
    if (isWithin && one.prefixLength > of.prefixLength) continue;
    const message = `${quote(input)} must be a strict subset of \`cidr\`, which is ${cidr}`;
    context.addIssue({ code: 'custom', path: ['except', index], input, message });
  }
});

export type IpBlock = z.output<typeof ipBlock>;
