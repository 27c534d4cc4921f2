/**
 * What hooks have set for a connection: a mark, the DSCP of its packets, and a meter that limits them. It concerns packets of the
 * original direction; replies are left alone. It is in the connection's record, so it stays as it was when that began.
 * native/treatment.h has the same layout, compared at load.
 *
 * A meter is known by its name, which says who is limited together and to what; the datapath makes it when a packet needs it
 * (native/meters.h).
 */
export interface Treatment {
  /** 1 to MOST_MARK; 0: none. */
  readonly mark: number;
  /** 0 to 63; undefined: it stays as it is. */
  readonly dscp?: number | undefined;
  readonly meter?: MeterName | undefined;
}

export interface MeterName {
  /** Not 0. */
  readonly id: number;
  /** 1000 bits a second, on the wire; 0: as many as there are. */
  readonly kbits: number;
  /** A second; 0: as many as there are. */
  readonly packets: number;
}

export const MOST_MARK = 0xffff;
export const MOST_DSCP = 63;
export const MOST_RATE = 0xffff_ffff;

export const TREATMENT_BYTES = 16;
const SETS_DSCP = 0x80;

/** The DSCP as one byte: 0 leaves it as it is. */
export function dscpByte(treatment: Treatment | undefined): number {
  return treatment?.dscp === undefined ? 0 : SETS_DSCP | treatment.dscp;
}

export function dscpOf(byte: number): number | undefined {
  return byte === 0 ? undefined : byte & MOST_DSCP;
}

export function writeMeter(view: DataView, at: number, meter: MeterName | undefined): void {
  view.setUint32(at, meter?.id ?? 0, true);
  view.setUint32(at + 4, meter?.kbits ?? 0, true);
  view.setUint32(at + 8, meter?.packets ?? 0, true);
}

export function readMeter(view: DataView, at: number): MeterName | undefined {
  const id = view.getUint32(at, true);
  if (id === 0) return undefined;
  return { id, kbits: view.getUint32(at + 4, true), packets: view.getUint32(at + 8, true) };
}

/** As a record has it. */
export function writeTreatment(view: DataView, at: number, treatment: Treatment | undefined): void {
  view.setUint16(at, treatment?.mark ?? 0, true);
  view.setUint8(at + 2, dscpByte(treatment));
  view.setUint8(at + 3, 0);
  writeMeter(view, at + 4, treatment?.meter);
}

/** Undefined if nothing is set. */
export function readTreatment(view: DataView, at: number): Treatment | undefined {
  return treatmentOf(view.getUint16(at, true), dscpOf(view.getUint8(at + 2)), readMeter(view, at + 4));
}

export function treatmentOf(
  mark: number,
  dscp: number | undefined,
  meter: MeterName | undefined,
): Treatment | undefined {
  if (mark === 0 && dscp === undefined && meter === undefined) return undefined;
  return { mark, ...(dscp !== undefined && { dscp }), ...(meter && { meter }) };
}

export function sameTreatment(a: Treatment | undefined, b: Treatment | undefined): boolean {
  return (
    (a?.mark ?? 0) === (b?.mark ?? 0) &&
    a?.dscp === b?.dscp &&
    a?.meter?.id === b?.meter?.id &&
    a?.meter?.kbits === b?.meter?.kbits &&
    a?.meter?.packets === b?.meter?.packets
  );
}

/** `mark=7`, `dscp=46`, `rate=10000kbit/s`, `rate=500 packets/s`. */
export function treatmentTexts(treatment: Treatment | undefined): readonly string[] {
  const { mark = 0, dscp, meter } = treatment ?? {};
  return [
    ...(mark === 0 ? [] : [`mark=${mark}`]),
    ...(dscp === undefined ? [] : [`dscp=${dscp}`]),
    ...(meter && meter.kbits > 0 ? [`rate=${meter.kbits}kbit/s`] : []),
    ...(meter && meter.packets > 0 ? [`rate=${meter.packets}packets/s`] : []),
  ];
}
