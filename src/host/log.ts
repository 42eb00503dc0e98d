// The log: pino, as JSON or as plain lines, on standard output (where Neon's launchers look for it).
//
//   json    {"level":"INFO","timestamp":"2026-11-20T03:47:08.123Z","message":"ready","port":5454}
//   plain   2026-11-20T03:47:08.123Z  INFO ready port=5454
//
// Launchers read any line with the word ERROR or WARN as trouble, so these levels are for trouble only, and the
// words are broken up when they come inside a field or message of a calmer line. Values under names that smell of
// secrets are replaced. Errors are written with their code, hint and cause; stacks only for what is not a Fault.
//
// The level comes from RUST_LOG, as Neon's launchers set it: its first bare word (error, warn, info, debug, trace).

import { inspect } from 'node:util';
import { type Logger, pino } from 'pino';
import { Fault } from '../base/fault.ts';
import type { Log, LogFields } from '../base/ports.ts';

export type LogFormat = 'json' | 'plain';

export interface LogOptions {
  readonly format: LogFormat;
  readonly level?: string | undefined;
  /** Standard output unless told. */
  readonly write?: (line: string) => void;
}

const SECRET = /token|password|secret|authorization|private_?key|credential/i;
const HIDDEN = '(hidden)';

export function hostLog(options: LogOptions): Log {
  const destination = options.write ? { write: options.write } : standardOutput();
  const logger = pino(
    {
      level: options.level ?? 'info',
      base: null,
      messageKey: 'message',
      timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label.toUpperCase() }) },
    },
    options.format === 'json' ? destination : { write: line => destination.write(plain(line)) },
  );
  return new PinoLog(logger, {});
}

/** A log that cannot be written (its disk is full, its reader has gone) must not end the service. */
function standardOutput(): { write(line: string): void } {
  const destination = pino.destination({ dest: 1, sync: true });
  destination.on('error', () => {});
  return {
    write(line) {
      try {
        destination.write(line);
      } catch {
        // The line is lost.
      }
    },
  };
}

class PinoLog implements Log {
  private readonly logger: Logger;
  private readonly fields: LogFields;

  constructor(logger: Logger, fields: LogFields) {
    this.logger = logger;
    this.fields = fields;
  }

  debug(message: string, fields?: LogFields): void {
    if (this.logger.isLevelEnabled('debug')) this.logger.debug(this.calm(fields), quiet(message));
  }
  info(message: string, fields?: LogFields): void {
    if (this.logger.isLevelEnabled('info')) this.logger.info(this.calm(fields), quiet(message));
  }
  warn(message: string, fields?: LogFields): void {
    this.logger.warn(clean({ ...this.fields, ...fields }, false), message);
  }
  error(message: string, fields?: LogFields): void {
    this.logger.error(clean({ ...this.fields, ...fields }, false), message);
  }
  with(fields: LogFields): Log {
    return new PinoLog(this.logger, { ...this.fields, ...fields });
  }

  private calm(fields: LogFields | undefined): Record<string, unknown> {
    return clean({ ...this.fields, ...fields }, true);
  }
}

/** The two words that mean trouble, made harmless in a line that means none. */
const quiet = (text: string): string => text.replace(/\b(ERROR|WARN)(?=\b|ING\b)/g, w => w.toLowerCase());

function clean(fields: LogFields, calm: boolean): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const shown = SECRET.test(name) ? HIDDEN : show(value);
    out[name] = calm && typeof shown === 'string' ? quiet(shown) : shown;
  }
  return out;
}

function show(value: unknown): unknown {
  if (value instanceof Error) return errorText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'object' && value !== null) return inspect(value, { depth: 4, breakLength: Infinity });
  return value;
}

/** One line: what, its code, what to do, and why. */
export function errorText(error: Error, isCause = false): string {
  const plain = isCause ? error.message : (error.stack ?? String(error));
  let text = error instanceof Fault ? `${error.message} [${error.code}]` : plain;
  if (error instanceof Fault && error.hint) text += ` ${error.hint}`;
  // Why a Fault happened is told in words; where in the code is not what its reader wants to know.
  const expected = isCause || error instanceof Fault;
  if (error.cause instanceof Error) text += ` <- ${errorText(error.cause, expected)}`;
  return text;
}

function plain(line: string): string {
  const { level, timestamp, message, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const rest = Object.entries(fields).map(([k, v]) => `${k}=${typeof v === 'string' ? word(v) : String(v)}`);
  return `${[timestamp, String(level).padStart(5), message, ...rest].join(' ')}\n`;
}

const word = (text: string): string => (/^[^\s"=]+$/.test(text) && text !== '' ? text : JSON.stringify(text));

/** The level that RUST_LOG asks for as a whole; directives for single modules are not ours. */
export function levelOf(rustLog: string | undefined): string {
  const levels = ['error', 'warn', 'info', 'debug', 'trace'];
  for (const part of (rustLog ?? '').toLowerCase().split(',')) {
    if (levels.includes(part.trim())) return part.trim();
  }
  return 'info';
}
