/** What the bundler says of the programs in dist/: esbuild's metafile, https://esbuild.github.io/api/#metafile. */
import fs from 'node:fs';
import path from 'node:path';

const FILE = path.join(path.dirname(import.meta.dirname), 'dist/contents.json');

interface Contents {
  readonly outputs: Record<string, { readonly inputs: Record<string, { readonly bytesInOutput: number }> }>;
}

/** Folders of packages that a program has something of: node_modules/a, node_modules/a/node_modules/b. */
export function packagesIn(program: string): string[] {
  const { outputs } = JSON.parse(fs.readFileSync(FILE, 'utf8')) as Contents;
  const [, output] = Object.entries(outputs).find(([file]) => path.basename(file) === `${program}.cjs`) ?? [];
  if (output === undefined) throw new Error(`${FILE} does not name ${program}`);
  const folders = Object.entries(output.inputs)
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .map(([file]) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0]);
  return [...new Set(folders.filter((folder) => folder !== undefined))];
}
