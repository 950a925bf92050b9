/**
 * The image contiv/lab, made here from this machine's own programs: busybox and what tests and benchmarks
 * need, each with its shared libraries. There is no registry to take one from.
 */
import fs from 'node:fs';
import path from 'node:path';
import { run, tryRun } from './shell.ts';
import { dataFolder, onHost } from './state.ts';

export const IMAGE = 'contiv/lab';
const TAR = '/var/lib/contiv-lab/image.tar';
/**
 * In place of busybox's. sh: that of busybox takes its own programs before those in PATH. wget: busybox 1.35 as Debian
 * builds it (without the timeout) crashes on `wget -T`.
 */
export const TOOLS = [
  ...['iperf3', 'dig', 'tcpdump', 'socat', 'curl', 'ip', 'traceroute', 'arping', 'netperf'],
  ...['sh', 'wget'],
];

const find = async (program: string): Promise<string | undefined> => {
  const found = (await tryRun('sh', ['-c', `command -v ${program}`]))?.trim();
  return found ? fs.realpathSync(found) : undefined;
};

/** Made once for all labs, again when a program is newer than it; drafted in the lab's own folder, which goes with it. */
export async function makeImage(lab: string): Promise<void> {
  const tools = await findTools(TOOLS);
  if (isNewerThan(TAR, [...tools.values(), import.meta.filename])) return;
  const folder = path.join(dataFolder(lab), 'image');
  await layOut(folder, tools);
  await run('tar', ['-C', folder, '-cf', `${folder}.tar`, '.']);
  fs.renameSync(`${folder}.tar`, TAR);
  fs.rmSync(folder, { recursive: true, force: true });
}

/** busybox and those of the tools that the machine has, by name. */
export async function findTools(names: readonly string[] = TOOLS): Promise<Map<string, string>> {
  const tools = new Map<string, string>();
  for (const name of ['busybox', ...names]) {
    const found = await find(name);
    if (found !== undefined) tools.set(name, found);
  }
  if (!tools.has('busybox')) throw new Error('busybox is missing: run make setup');
  return tools;
}

export const isNewerThan = (file: string, others: readonly string[]): boolean =>
  fs.existsSync(file) && fs.statSync(file).mtimeMs > Math.max(...others.map((f) => fs.statSync(f).mtimeMs));

/** A root folder with the tools in /bin, each with its shared libraries, and busybox for all others. */
export async function layOut(folder: string, tools: ReadonlyMap<string, string>): Promise<void> {
  fs.rmSync(folder, { recursive: true, force: true });
  for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'www'])
    fs.mkdirSync(`${folder}/${name}`, { recursive: true });
  const busybox = tools.get('busybox') as string;
  for (const applet of (await run(busybox, ['--list'])).split('\n'))
    if (applet !== '' && applet !== 'busybox') fs.symlinkSync('busybox', `${folder}/bin/${applet}`);
  for (const [name, file] of tools) {
    const target = `${folder}/bin/${name}`;
    fs.rmSync(target, { force: true });
    fs.copyFileSync(file, target);
    // ldd fails where there are none.
    for (const match of ((await tryRun('ldd', [file])) ?? '').matchAll(/(\/[^\s]+)/g)) {
      const library = match[1] as string;
      fs.mkdirSync(folder + path.dirname(library), { recursive: true });
      fs.copyFileSync(fs.realpathSync(library), folder + library);
    }
  }
  fs.writeFileSync(
    `${folder}/etc/passwd`,
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  );
  fs.writeFileSync(`${folder}/etc/group`, 'root:x:0:\nnogroup:x:65534:\n');
  fs.writeFileSync(`${folder}/www/index.html`, 'hello from contiv\n');
}

export async function loadImage(lab: string, host: string): Promise<void> {
  if ((await tryRun(...onHost(lab, host, 'docker', 'image', 'inspect', IMAGE))) !== undefined) return;
  await run(...onHost(lab, host, 'docker', 'import', '-c', 'CMD ["sh"]', TAR, IMAGE));
}
