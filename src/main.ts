// The composition root: one table of commands, and the real world they are handed. Knows everyone, does nothing.

import { Command, CommanderError, Option } from 'commander';
import type { Verb, World } from './base/command.ts';
import { isFault } from './base/fault.ts';
import { completionVerb } from './control/cli/completion.ts';
import { pageVaultDoor, vaultDoor } from './control/cli/keys-access.ts';
import { verbs } from './control/cli/verbs.ts';
import { hostWorld } from './host/world.ts';
import { pageserverVerbs } from './pageserver/cli/verbs.ts';
import { safekeeperVerbs } from './safekeeper/cli/verbs.ts';

const VERSION = '0.1.0';

function describe(verb: Verb): string {
  const parts: string[] = [];
  if (verb.about) parts.push(`\n${verb.about}`);
  const width = Math.max(...verb.examples.map(e => e.line.length));
  parts.push(`\nExamples:\n${verb.examples.map(e => `  ${e.line.padEnd(width)}  ${e.what}`).join('\n')}`);
  const codes = Object.entries({ 0: 'success', 2: 'wrong call', ...verb.exitCodes });
  parts.push(`\nExit codes:\n${codes.map(([code, what]) => `  ${code}  ${what}`).join('\n')}`);
  return parts.join('\n');
}

function addVerb(program: Command, verb: Verb, world: World, done: (code: number) => void): void {
  const words = verb.name.split(' ');
  let parent = program;
  for (const word of words.slice(0, -1)) {
    const known = parent.commands.find(c => c.name() === word);
    parent = known ?? parent.command(word).description(`${word} commands`);
  }
  const command = parent.command(words.at(-1)!).summary(verb.summary).description(verb.summary);
  for (const a of verb.arguments ?? []) {
    const name = a.many ? `${a.name}...` : a.name;
    command.argument(a.optional ? `[${name}]` : `<${name}>`, a.help);
  }
  for (const o of verb.options ?? []) {
    const option = new Option(o.flags.replace(/ ([A-Z][A-Z_|/]*)$/, ' <$1>'), o.help);
    if (o.default !== undefined) option.default(o.default);
    if (o.choices !== undefined) option.choices([...o.choices]);
    if (o.many) option.argParser((value: string, all: string[] = []) => [...all, value]);
    command.addOption(option);
  }
  command.addHelpText('after', describe(verb));
  command.action(async () => {
    const args = command.processedArgs.flat().filter(a => a !== undefined) as string[];
    done(await verb.run({ args, options: command.opts() }, world));
  });
}

/** Run one command line; resolves to the exit code. */
export async function main(argv: readonly string[], world: World): Promise<number> {
  let code = 0;
  const program = new Command('lakebed')
    .description('The storage under a serverless Postgres: durable WAL, any page at any LSN, sealed at rest.')
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(--help tells more)')
    .configureOutput({
      writeOut: text => world.terminal.write(text),
      writeErr: text => world.terminal.note(text),
    });
  const all: Verb[] = [...verbs, ...safekeeperVerbs(vaultDoor), ...pageserverVerbs(pageVaultDoor)];
  all.push(completionVerb(() => all));
  for (const verb of all) addVerb(program, verb, world, c => (code = c));
  // Subcommands are made after these settings; commander hands them down only at creation.
  const settle = (command: Command): void => {
    command.exitOverride();
    command.configureOutput(program.configureOutput());
    command.commands.forEach(settle);
  };
  settle(program);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (isFault(error)) {
      world.terminal.note(
        `lakebed: ${error.message}\n${error.hint === undefined ? '' : `  ${error.hint}\n`}`,
      );
      return 1;
    }
    throw error;
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), hostWorld());
