/**
 * The image contiv/lab, made here from this machine's own programs: busybox and what tests and benchmarks
 * need, each with its shared libraries. There is no registry to take one from.
 */
import fs from 'node:fs';
import path from 'node:path';
import { run, tryRun } from './shell.ts';
import { onHost } from './state.ts';

export const IMAGE = 'contiv/lab';
const FOLDER = '/var/lib/contiv-lab/image';
const TAR = `${FOLDER}.tar`;
const TOOLS = ['iperf3', 'dig', 'tcpdump', 'socat', 'curl', 'ip', 'traceroute', 'arping', 'netperf'];

/** Made once; again when a program is newer than it. */
export async function makeImage(): Promise<void> {
  const tools: string[] = [];
  for (const tool of TOOLS) {
    const found = (await tryRun('sh', ['-c', `command -v ${tool}`]))?.trim();
    if (found) tools.push(fs.realpathSync(found));
  }
  const busybox = (await tryRun('sh', ['-c', 'command -v busybox']))?.trim();
  if (!busybox) throw new Error('busybox is missing: run make setup');
  const newest = Math.max(...[...tools, busybox, import.meta.filename].map((f) => fs.statSync(f).mtimeMs));
  if (fs.existsSync(TAR) && fs.statSync(TAR).mtimeMs > newest) return;
  fs.rmSync(FOLDER, { recursive: true, force: true });
  for (const folder of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'www'])
    fs.mkdirSync(`${FOLDER}/${folder}`, { recursive: true });
  fs.copyFileSync(busybox, `${FOLDER}/bin/busybox`);
  for (const applet of (await run(busybox, ['--list'])).split('\n'))
    if (applet !== '' && applet !== 'busybox') fs.symlinkSync('busybox', `${FOLDER}/bin/${applet}`);
  for (const tool of tools) {
    const target = `${FOLDER}/bin/${path.basename(tool)}`;
    fs.rmSync(target, { force: true });
    fs.copyFileSync(tool, target);
    for (const match of (await run('ldd', [tool])).matchAll(/(\/[^\s]+)/g)) {
      const library = match[1] as string;
      fs.mkdirSync(FOLDER + path.dirname(library), { recursive: true });
      fs.copyFileSync(fs.realpathSync(library), FOLDER + library);
    }
  }
  fs.writeFileSync(
    `${FOLDER}/etc/passwd`,
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  );
  fs.writeFileSync(`${FOLDER}/etc/group`, 'root:x:0:\nnogroup:x:65534:\n');
  fs.writeFileSync(`${FOLDER}/www/index.html`, 'hello from contiv\n');
  await run('tar', ['-C', FOLDER, '-cf', `${TAR}.new`, '.']);
  fs.renameSync(`${TAR}.new`, TAR);
  fs.rmSync(FOLDER, { recursive: true, force: true });
}

export async function loadImage(lab: string, host: string): Promise<void> {
  if ((await tryRun(...onHost(lab, host, 'docker', 'image', 'inspect', IMAGE))) !== undefined) return;
  await run(...onHost(lab, host, 'docker', 'import', '-c', 'CMD ["sh"]', TAR, IMAGE));
}
