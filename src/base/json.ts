// JSON without loss: whole numbers past 2^53 (a system identifier is a full u64) are read as bigint and written
// as numbers, as Neon's services do on both ends.

interface Source {
  readonly source?: string;
}

const raw = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON;

const WHOLE = /^-?\d+$/;

/** Throws SyntaxError as JSON.parse does. */
export function parseJson(text: string): unknown {
  const revive = (_: string, value: unknown, context?: Source): unknown =>
    typeof value === 'number' && !Number.isSafeInteger(value) && context?.source && WHOLE.test(context.source)
      ? BigInt(context.source)
      : value;
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}

export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? raw(v.toString()) : v), indent);
}
