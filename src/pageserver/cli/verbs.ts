// The pageserver's verbs of the command line.

import type { Verb } from '../../base/command.ts';
import { inspectLayer } from './inspect-layer.ts';
import { inspectPage } from './inspect-page.ts';
import { inspectTimeline } from './inspect-timeline.ts';
import { scrubVerb } from './scrub.ts';
import type { StoreDoor } from './vault-door.ts';

export const pageserverVerbs = (door: StoreDoor): readonly Verb[] => [
  inspectTimeline(door),
  inspectLayer(door),
  inspectPage(door),
  scrubVerb(door),
];
