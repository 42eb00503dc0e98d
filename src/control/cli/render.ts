// What a person sees: tables of aligned columns, trees of branches, times as ages. Pure; colours only where asked for.

export interface Paint {
  readonly strong: (text: string) => string;
  readonly faint: (text: string) => string;
  readonly good: (text: string) => string;
  readonly warn: (text: string) => string;
}

const plain = (text: string): string => text;
const sgr = (code: number) => (text: string) => `\u001b[${code}m${text}\u001b[0m`;

/** Colours for a terminal; none in a pipe, or where NO_COLOR is set. */
export const paintFor = (isTerminal: boolean, noColor: string | undefined): Paint =>
  isTerminal && (noColor === undefined || noColor === '')
    ? { strong: sgr(1), faint: sgr(2), good: sgr(32), warn: sgr(33) }
    : { strong: plain, faint: plain, good: plain, warn: plain };

/** Rows under a head; the last column is not padded. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], paint: Paint): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map(row => (row[i] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === head.length - 1 ? cell : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [paint.faint(line(head)), ...rows.map(line)].map(text => `${text}\n`).join('');
}

export interface TreeNode {
  readonly id: string;
  readonly parent: string | undefined;
  readonly name: string;
  /** What stands behind the name. */
  readonly note: string;
}

/** Children under their parents, in the order given; a node whose parent is not among them is a root. */
export function tree(nodes: readonly TreeNode[], paint: Paint): string {
  const known = new Set(nodes.map(n => n.id));
  const children = (of: string | undefined): TreeNode[] =>
    nodes.filter(n => (of === undefined ? n.parent === undefined || !known.has(n.parent) : n.parent === of));
  const lines: { drawn: string; name: string; note: string }[] = [];
  const walk = (node: TreeNode, stem: string, branch: string): void => {
    lines.push({ drawn: stem + branch, name: node.name, note: node.note });
    const below = children(node.id);
    const deeper = branch === '' ? stem : stem + (branch === '└─ ' ? '   ' : '│  ');
    for (const [i, child] of below.entries()) walk(child, deeper, i === below.length - 1 ? '└─ ' : '├─ ');
  };
  for (const root of children(undefined)) walk(root, '', '');
  const width = Math.max(0, ...lines.map(l => l.drawn.length + l.name.length));
  return lines
    .map(({ drawn, name, note }) => {
      const pad = ' '.repeat(width - drawn.length - name.length);
      return `${`${paint.faint(drawn)}${paint.strong(name)}${pad}  ${note}`.trimEnd()}\n`;
    })
    .join('');
}

/** `3 min ago`. */
export function age(then: string | undefined, nowMs: number): string {
  if (then === undefined) return '-';
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(then)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** An LSN, or a point in time: `0/16B3748`, `2026-01-31T12:00Z`, `yesterday`, `15 min ago`, `2h`. */
export function parsePoint(text: string, nowMs: number): { lsn: string } | { timestamp: string } | undefined {
  if (/^[0-9a-f]{1,8}\/[0-9a-f]{1,8}$/i.test(text)) return { lsn: text };
  const moment = parseMoment(text.trim().toLowerCase(), nowMs) ?? Date.parse(text);
  return Number.isNaN(moment) ? undefined : { timestamp: new Date(moment).toISOString() };
}

const UNITS: readonly [RegExp, number][] = [
  [/^s(ec(ond)?s?)?$/, 1000],
  [/^m(in(ute)?s?)?$/, 60_000],
  [/^h((ou)?rs?)?$/, 3_600_000],
  [/^d(ays?)?$/, 86_400_000],
  [/^w(eeks?)?$/, 604_800_000],
];

function parseMoment(text: string, nowMs: number): number | undefined {
  if (text === 'now') return nowMs;
  if (text === 'yesterday') return nowMs - 86_400_000;
  const parts = /^(\d+(?:\.\d+)?)\s*([a-z]+)(?:\s+ago)?$/.exec(text);
  const unit = parts && UNITS.find(([name]) => name.test(parts[2]!));
  return unit ? nowMs - Number(parts[1]) * unit[1] : undefined;
}
