/**
 * The images that pods run, as one docker-archive made here: pause, CoreDNS, and agnhost as upstream's suites name it, with the tools
 * of contiv/lab, bash, getent and nc beside it, which stands for other images of those suites too. There is no registry to take them from.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { findTools, isNewerThan, layOut, TOOLS } from '../image.ts';
import { run } from '../shell.ts';
import { dataFolder, onHost } from '../state.ts';
import { CONTAINERD_SOCKET, PAUSE, programFile } from './files.ts';

const SUITES = 'registry.k8s.io/e2e-test-images';
const AGNHOST = `${SUITES}/agnhost`;
/** Of the version that is built: lab/kubernetes/build/coredns/go.mod. */
const COREDNS = 'registry.k8s.io/coredns/coredns:v1.14.6';
/** What agnhost's servers of TLS show. */
const SERVED = ['localhost.crt', 'localhost.key'];
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
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
}

const IMAGES: readonly Image[] = [
  { tag: PAUSE, layers: ['pause'], entrypoint: ['/pause'] },
  { tag: COREDNS, layers: ['coredns'], entrypoint: ['/coredns'] },
  // With CoreDNS in it, as upstream's has one: its suite of DNS makes nameservers of it.
  { tag: `${AGNHOST}:2.66.1`, layers: ['agnhost', 'coredns'], entrypoint: ['/agnhost'], command: ['pause'] },
  { tag: `${AGNHOST}:2.45`, layers: ['agnhost', 'sctp'], entrypoint: ['/agnhost'], command: ['pause'] },
  // Of upstream's suite of DNS what its probes call: dig, getent, sh.
  { tag: `${SUITES}/glibc-dns-testing:2.1.1`, layers: ['agnhost'], command: ['sh'] },
  { tag: `${SUITES}/busybox:1.37.0-2`, layers: ['agnhost'], command: ['sh'] },
];

/** Made once for all labs, again when a program is newer than it; drafted in the lab's own folder, which goes with it. */
export async function makePodImages(lab: string): Promise<void> {
  const tools = await findTools([...TOOLS, 'bash', 'getent', 'nc']);
  const program = (name: string): string => fs.realpathSync(programFile(lab, name));
  const programs = ['pause', 'agnhost', ...SERVED, 'coredns'].map(program);
  if (isNewerThan(TAR, [...tools.values(), ...programs, import.meta.filename])) return;
  const archive = path.join(dataFolder(lab), 'pods');
  const layer = (name: string): string => `${archive}.layers/${name}`;
  await layOut(layer('agnhost'), tools);
  fs.copyFileSync(program('agnhost'), `${layer('agnhost')}/agnhost-2`);
  for (const name of SERVED) fs.copyFileSync(program(name), `${layer('agnhost')}/${name}`);
  fs.writeFileSync(`${layer('agnhost')}/etc/nsswitch.conf`, 'hosts: files dns\n');
  fs.symlinkSync('agnhost-2', `${layer('agnhost')}/agnhost`);
  for (const name of ['pause', 'coredns', 'sctp']) fs.mkdirSync(layer(name));
  for (const name of ['pause', 'coredns']) fs.copyFileSync(program(name), `${layer(name)}/${name}`);
  fs.writeFileSync(`${layer('sctp')}/agnhost`, WITHOUT_SCTP, { mode: 0o755 });
  fs.mkdirSync(archive);
  const digests = new Map<string, string>();
  for (const name of ['pause', 'coredns', 'agnhost', 'sctp']) {
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
