// `lakebed completion SHELL`: what a shell needs to complete our words, made from the table of verbs. Pure.

import type { Verb } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

interface Words {
  /** After these words ('' at the start), these may follow. */
  readonly after: ReadonlyMap<string, readonly { readonly word: string; readonly help: string }[]>;
}

export function wordsOf(verbs: readonly Verb[]): Words {
  const after = new Map<string, { word: string; help: string }[]>();
  const put = (before: string, word: string, help: string): void => {
    const list = after.get(before) ?? [];
    if (!list.some(w => w.word === word)) list.push({ word, help });
    after.set(before, list);
  };
  for (const verb of verbs) {
    const words = verb.name.split(' ');
    words.forEach((word, i) => {
      const isLast = i === words.length - 1;
      put(words.slice(0, i).join(' '), word, isLast ? verb.summary : `${word} commands`);
    });
    for (const option of verb.options ?? []) {
      const long = /--[a-z-]+/.exec(option.flags)?.[0];
      if (long !== undefined) put(verb.name, long, option.help);
    }
  }
  return { after };
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function bash({ after }: Words): string {
  const cases = [...after].map(([before, words]) => {
    return `    ${quoted(before)}) words=${quoted(words.map(w => w.word).join(' '))} ;;`;
  });
  return `# lakebed for bash: eval "$(lakebed completion bash)"
_lakebed() {
  local before='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in -*) continue ;; esac
    case "\${before:+$before }\${COMP_WORDS[i]}" in
${[...after.keys()]
  .filter(k => k !== '')
  .map(k => `      ${quoted(k)}) before=${quoted(k)} ;;`)
  .join('\n')}
    esac
  done
  case $before in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _lakebed lakebed
`;
}

const zsh = (words: Words): string =>
  `# lakebed for zsh: eval "$(lakebed completion zsh)"\nautoload -U +X bashcompinit && bashcompinit\n${bash(words)}`;

function fish({ after }: Words): string {
  const lines = [...after].flatMap(([before, words]) =>
    words.map(({ word, help }) => {
      const seen = before.split(' ').filter(w => w !== '');
      const others = words.map(w => w.word).filter(w => !w.startsWith('-'));
      const conditions = seen.map(w => `__fish_seen_subcommand_from ${w}`);
      if (others.length > 0) conditions.push(`not __fish_seen_subcommand_from ${others.join(' ')}`);
      const when = conditions.length === 0 ? '' : ` -n ${quoted(conditions.join('; and '))}`;
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      return `complete -c lakebed${when} ${what} -d ${quoted(help)}`;
    }),
  );
  return `# lakebed for fish: lakebed completion fish | source\n${lines.join('\n')}\n`;
}

/** The verb; handed all verbs, which it cannot know of itself. */
export const completionVerb = (all: () => readonly Verb[]): Verb => ({
  name: 'completion',
  summary: 'print what a shell needs to complete our words',
  arguments: [{ name: 'shell', help: SHELLS.join(', ') }],
  examples: [
    { line: 'eval "$(lakebed completion bash)"', what: 'in ~/.bashrc' },
    { line: 'lakebed completion fish | source', what: 'in config.fish' },
  ],
  async run(input, world) {
    const [shell] = input.args;
    const words = wordsOf(all());
    const made =
      shell === 'bash' ? bash(words) : shell === 'zsh' ? zsh(words) : shell === 'fish' ? fish(words) : '';
    if (made === '') throw new Fault('command-unknown', `${shell} is none of ${SHELLS.join(', ')}`);
    world.terminal.write(made);
    return 0;
  },
});
