/**
 * Numbers of fields, opcodes and drop reasons fit the bits that they are packed into; a table that is too large is
 * refused.
 */
import t from 'tap';
import { opcodeBudgets, opcodes } from '../../src/flow/action.ts';
import { checkBudgets } from '../../src/flow/budget.ts';
import { fieldBudgets, fieldList, KEY_BYTES } from '../../src/flow/fields.ts';
import { maskOf } from '../../src/flow/key.ts';
import { reasonBudgets } from '../../src/flow/reason.ts';

/** `fieldList` with made-up fields up to number `last`. */
function withFields(last: number) {
  const more = Array.from({ length: last + 1 - fieldList.length }, (_, i) => ({
    offset: 0,
    size: 1,
    number: fieldList.length + i,
  }));
  return [...fieldList, ...more];
}

t.test('a field whose bit is beyond the sets of fields', async (t) => {
  checkBudgets(fieldBudgets(withFields(31)));
  t.throws(() => checkBudgets(fieldBudgets(withFields(32))), {
    code: 'internal',
    message: /^33 fields do not fit: there is room for 32; widen the sets of fields.*flow\/view\.ts.*maskOf/,
  });
  // This is what would happen: bit 32 is bit 0, so the field would be mistaken for the first one.
  t.equal(1 << 32, 1 << 0);
  t.equal(maskOf(1 << 31).length, KEY_BYTES, 'the last bit can be used');
});

t.test('a field that is beyond the key, or too long', async (t) => {
  const number = fieldList.length;
  t.throws(() => checkBudgets(fieldBudgets([...fieldList, { offset: KEY_BYTES - 1, size: 2, number }])), {
    message: new RegExp(
      `^${KEY_BYTES + 1} bytes of a flow key do not fit: there is room for ${KEY_BYTES}; widen KEY_BYTES.*kKeyBytes`,
    ),
  });
  t.throws(() => checkBudgets(fieldBudgets([...fieldList, { offset: 0, size: 256, number }])), {
    message: /^256 bytes of one field do not fit.*megaflowId/,
  });
});

t.test('an opcode or a drop reason beyond a byte', async (t) => {
  checkBudgets(opcodeBudgets({ ...opcodes, mirror: 255 }));
  t.throws(() => checkBudgets(opcodeBudgets({ ...opcodes, mirror: 256 })), {
    message: /^256 opcodes do not fit: there is room for 255; widen the opcode of an encoded action/,
  });
  checkBudgets(reasonBudgets(255));
  t.throws(() => checkBudgets(reasonBudgets(256)), { message: /^256 drop reasons do not fit.*native\/reason\.h/ });
});
