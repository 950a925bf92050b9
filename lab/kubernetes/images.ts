/**
 * The images that pods run, as one docker-archive made here: pause, and agnhost as upstream's suites name it, with the tools of
 * contiv/lab and bash beside it. There is no registry to take them from.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { findTools, isNewerThan, layOut, TOOLS } from '../image.ts';
import { run } from '../shell.ts';
import { dataFolder, onHost } from '../state.ts';
import { CONTAINERD_SOCKET, PAUSE, programFile } from './files.ts';

const AGNHOST = 'registry.k8s.io/e2e-test-images/agnhost';
const TAR = '/var/lib/contiv-lab/pods.tar';

/**
 * For the suite of network-policy-api, whose pods run servers of SCTP in every case: where the kernel has no SCTP they would end, and
 * no pod would ever be ready.
 */
const WITHOUT_SCTP = `#!/bin/sh
if [ "$1" = porter ] && [ ! -e /proc/sys/net/sctp ] && env | grep -q '^SERVE_SCTP_PORT_'; then exec /agnhost-2 pause; fi
exec /agnhost-2 "$@"
`;

interface Image {
  readonly tag: string;
  readonly layers: readonly string[];
  readonly entrypoint: readonly string[];
  readonly command?: readonly string[];
}

const IMAGES: readonly Image[] = [
  { tag: PAUSE, layers: ['pause'], entrypoint: ['/pause'] },
  { tag: `${AGNHOST}:2.66.1`, layers: ['agnhost'], entrypoint: ['/agnhost'], command: ['pause'] },
  { tag: `${AGNHOST}:2.45`, layers: ['agnhost', 'sctp'], entrypoint: ['/agnhost'], command: ['pause'] },
];

/** Made once for all labs, again when a program is newer than it; drafted in the lab's own folder, which goes with it. */
export async function makePodImages(lab: string): Promise<void> {
  const tools = await findTools([...TOOLS, 'bash']);
  const pause = fs.realpathSync(programFile(lab, 'pause'));
  const agnhost = fs.realpathSync(programFile(lab, 'agnhost'));
  if (isNewerThan(TAR, [...tools.values(), pause, agnhost, import.meta.filename])) return;
  const archive = path.join(dataFolder(lab), 'pods');
  const layer = (name: string): string => `${archive}.layers/${name}`;
  await layOut(layer('agnhost'), tools);
  fs.copyFileSync(agnhost, `${layer('agnhost')}/agnhost-2`);
  fs.symlinkSync('agnhost-2', `${layer('agnhost')}/agnhost`);
  for (const name of ['pause', 'sctp']) fs.mkdirSync(layer(name));
  fs.copyFileSync(pause, `${layer('pause')}/pause`);
  fs.writeFileSync(`${layer('sctp')}/agnhost`, WITHOUT_SCTP, { mode: 0o755 });
  fs.mkdirSync(archive);
  const digests = new Map<string, string>();
  for (const name of ['pause', 'agnhost', 'sctp']) {
    const tar = `${archive}/${name}.tar`;
    await run('tar', ['-C', layer(name), '-cf', tar, '.']);
    digests.set(name, `sha256:${crypto.createHash('sha256').update(fs.readFileSync(tar)).digest('hex')}`);
  }
  const manifest = IMAGES.map((image, i) => {
    fs.writeFileSync(`${archive}/${i}.json`, JSON.stringify(configuration(image, digests)));
    return { Config: `${i}.json`, RepoTags: [image.tag], Layers: image.layers.map((name) => `${name}.tar`) };
  });
  fs.writeFileSync(`${archive}/manifest.json`, JSON.stringify(manifest));
  await run('tar', ['-C', archive, '-cf', `${archive}.tar`, '.']);
  fs.renameSync(`${archive}.tar`, TAR);
  for (const folder of [archive, `${archive}.layers`]) fs.rmSync(folder, { recursive: true });
}

/** As the OCI's image specification has it (config.md). */
const configuration = (image: Image, digests: ReadonlyMap<string, string>): object => ({
  os: 'linux',
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
  config: {
    Entrypoint: image.entrypoint,
    Cmd: image.command,
    Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    WorkingDir: '/',
  },
  rootfs: { type: 'layers', diff_ids: image.layers.map((name) => digests.get(name)) },
});

export async function importPodImages(lab: string, host: string): Promise<void> {
  const ctr = ['ctr', '--address', CONTAINERD_SOCKET, '--namespace', 'k8s.io'];
  await run(...onHost(lab, host, ...ctr, 'images', 'import', TAR));
}
