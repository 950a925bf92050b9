/**
 * What failed, in a few lines, printed last: of a long run often only the end of the output is kept, and there Vitest's own report has the
 * code about the failure but not what was found.
 */
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Of one failure: more of a line than this is not told. */
const MOST_CHARACTERS = 300;
/** More failures than this are only counted. */
const MOST_LINES = 8;

export default class Failures implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const told = modules.flatMap((module) => [
      ...module.errors().map(({ message }) => line(module.relativeModuleId, message)),
      ...[...module.children.allTests('failed')].map((test) => lineOf(module, test)),
    ]);
    if (told.length === 0) return;
    // Vitest's own report is written by another reporter, which may still be at it.
    process.once('exit', () => {
      const more = told.length - MOST_LINES;
      const shown = [...told.slice(0, MOST_LINES), ...(more > 0 ? [`FAILED: ${more} more`] : [])];
      process.stderr.write(`\n${shown.join('\n')}\n`);
    });
  }
}

function lineOf(module: TestModule, test: TestCase): string {
  const [error] = test.result().errors ?? [];
  // Of a comparison the lines that were found and not expected.
  const found = stripVTControlCharacters(error?.diff ?? '')
    .split('\n')
    .filter((text) => /^\+ (?!Received)/.test(text))
    .map((text) => text.slice(2).trim());
  return line(`${module.relativeModuleId}: ${test.fullName}`, [error?.message ?? '', ...found].join(' '));
}

const line = (where: string, what: string): string =>
  `FAILED ${where}: ${stripVTControlCharacters(what).replace(/\s+/g, ' ')}`.slice(0, MOST_CHARACTERS);
