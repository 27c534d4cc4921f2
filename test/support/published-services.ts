/**
 * Lets tests declare services that are reached from outside, which the kind refuses as long as nothing leads there: what is
 * claimed for them is the cluster's all the same. To be imported for that effect.
 */
import { kinds } from '../../src/model/kinds/registry.ts';
import { publishedServiceSchema, serviceKind } from '../../src/model/kinds/service.ts';

kinds[kinds.indexOf(serviceKind)] = { ...serviceKind, schema: publishedServiceSchema };
