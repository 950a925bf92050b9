/**
 * What the programs in dist/ are made of, from what the bundler says of them and from the lock file:
 *
 *   dist/sbom.json    CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/), without a time or a number of its own, so that the same parts
 *                     are the same bytes
 *   dist/copyright    each part with its licence's text
 *
 * node packaging/inventory.ts, once the programs are made.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { packagesIn } from './contents.ts';

const ROOT = path.dirname(import.meta.dirname);
const PROGRAMS = ['netctl', 'netmaster', 'netplugin', 'netkube', 'names'];
/** Not in a bundle: beside it. */
const BESIDE = [
  'node_modules/koffi',
  `node_modules/@koromix/koffi-linux-${process.arch}`,
  `node_modules/node/node_modules/node-linux-${process.arch}`,
];

interface Part {
  readonly name: string;
  readonly version: string;
  /** SPDX's name or expression. */
  readonly license: string;
  readonly purl: string;
  /** SHA-512 of what the registry gave, in hexadecimal digits. */
  readonly sha512?: string;
  readonly text: string;
}

interface Locked {
  readonly version: string;
  readonly license?: string;
  readonly integrity?: string;
}

const read = (file: string): string => fs.readFileSync(path.join(ROOT, file), 'utf8');
const own = JSON.parse(read('package.json')) as { name: string; version: string; license: string };
const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };

/** Each file of the package that is about its licence. */
function licenceOf(folder: string): string {
  const files = fs
    .readdirSync(path.join(ROOT, folder))
    .filter((name) => /^(licen[cs]e|copying|notice)/i.test(name));
  return files
    .sort()
    .map((name) => read(path.join(folder, name)).trim())
    .join('\n\n');
}

function partOf(folder: string): Part {
  const about = JSON.parse(read(path.join(folder, 'package.json'))) as {
    name: string;
    version: string;
    license?: string;
  };
  const locked = lock.packages[folder];
  const license = about.license ?? locked?.license;
  if (license === undefined) throw new Error(`inventory: ${folder} does not say its licence`);
  const digest = /^sha512-(.+)$/.exec(locked?.integrity ?? '')?.[1];
  return {
    name: about.name,
    version: about.version,
    license,
    purl: `pkg:npm/${about.name.replace('@', '%40')}@${about.version}`,
    ...(digest && { sha512: Buffer.from(digest, 'base64').toString('hex') }),
    text: licenceOf(folder),
  };
}

/** contiv-cni and contiv-swarm have what they need of it within them. */
function cLibrary(): Part {
  const version =
    execFileSync('ldd', ['--version'], { encoding: 'utf8' }).split('\n', 1)[0]?.split(' ').at(-1) ?? '';
  return {
    name: 'glibc',
    version,
    license: 'LGPL-2.1-or-later',
    purl: `pkg:generic/glibc@${version}`,
    text: 'The GNU C Library is free software under the GNU Lesser General Public License, version 2.1 or later:\n/usr/share/common-licenses/LGPL-2.1 on Debian. The sources of what is linked with it are in src/cni and src/swarm.',
  };
}

const folders = [...new Set([...PROGRAMS.flatMap(packagesIn), ...BESIDE])];
const parts = [...folders.map(partOf), cLibrary()].sort((a, b) => (a.purl < b.purl ? -1 : 1));

const component = ({ name, version, license, purl, sha512 }: Part) => ({
  type: 'library',
  'bom-ref': purl,
  name,
  version,
  licenses: [/ (?:OR|AND) /.test(license) ? { expression: license } : { license: { id: license } }],
  purl,
  ...(sha512 && { hashes: [{ alg: 'SHA-512', content: sha512 }] }),
});
const sbom = {
  bomFormat: 'CycloneDX',
  specVersion: '1.6',
  version: 1,
  metadata: {
    component: {
      type: 'application',
      'bom-ref': own.name,
      name: own.name,
      version: own.version,
      licenses: [{ license: { id: own.license } }],
    },
  },
  components: parts.map(component),
};
fs.writeFileSync(path.join(ROOT, 'dist/sbom.json'), `${JSON.stringify(sbom, null, 1)}\n`);

const RULE = '-'.repeat(78);
const told = parts.map(({ name, version, license, text }) =>
  [RULE, `${name} ${version}: ${license}`, ...(text === '' ? [] : ['', text])].join('\n'),
);
const head = `${own.name} ${own.version}: ${own.license} (on Debian /usr/share/common-licenses/Apache-2.0), with parts of others:`;
fs.writeFileSync(path.join(ROOT, 'dist/copyright'), `${[head, ...told].join('\n\n')}\n`);
