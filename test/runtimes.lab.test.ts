/** Podman and containerd as Debian has them, on a host of the lab beside its dockerd: what docs/guide/runtimes.md says of them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  clear,
  differences,
  docker,
  type Ended,
  feed,
  inside,
  must,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const IMAGE = 'localhost/contiv/lab';
/** On the host, on disk; gone with it. */
const PLACE = '/var/lib/contiv/runtimes';

const FOLDERS = ['/etc/cni/net.d', '/opt/cni/bin', '/var/lib/cni', '/var/lib/containers'];

/** Without limits of the machine's that a container may not raise, and no cgroup of systemd's. */
const CONTAINERS = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
enable_port_reservation = false
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
`;
/** restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in a container, none would start. */
const CONTAINERD = `version = 2
root = "${PLACE}/containerd"
state = "${PLACE}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${PLACE}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${PLACE}/opt"
`;
const conflist = (name: string, network: string): string =>
  JSON.stringify({
    cniVersion: '1.0.0',
    name,
    plugins: [
      {
        type: 'contiv-cni',
        network,
        ...(name === 'web' && { group: 'web' }),
        capabilities: { portMappings: true, aliases: true, ips: true, mac: true, bandwidth: true },
      },
    ],
  });

const PODMAN = `env CONTAINERS_CONF=${PLACE}/containers.conf podman --root ${PLACE}/images --runroot ${PLACE}/podman --tmpdir ${PLACE}/tmp`;
const podman = (command: string, ...more: string[]): Promise<string> =>
  must('node1', `${PODMAN} ${command}`, ...more);
const within = (container: string, command: string): Promise<Ended> =>
  on('node1', `${PODMAN} exec ${container} ${command}`);
const ctr = (command: string): Promise<string> =>
  must('node1', `ctr --address ${PLACE}/containerd.sock ${command}`);

const attached = async (): Promise<string[]> =>
  JSON.parse(await must('node1', 'curl -s --unix-socket /run/contiv/netplugin.sock http://n/attachments'))
    .filter((a: { runtime: string }) => a.runtime === 'cni')
    .map((a: { endpoint: { containerName?: string; containerID: string; intfName: string } }) =>
      [a.endpoint.containerName ?? a.endpoint.containerID, a.endpoint.intfName].join(' '),
    )
    .sort();
/** As Podman has it. */
const addressOf = async (name: string, device = 'eth0'): Promise<string> =>
  /inet ([\d.]+)/.exec((await within(name, `ip -4 addr show dev ${device}`)).out)?.[1] ?? '';

const reaches = async (container: string, address: string, port: number): Promise<boolean> =>
  (await within(container, `nc -w 2 ${address} ${port} -e true`)).status === 0;
const reachesFromDocker = async (
  host: string,
  container: string,
  address: string,
  port: number,
): Promise<boolean> => (await inside(host, container, `nc -w 2 ${address} ${port} -e true`)).status === 0;

beforeAll(async () => {
  // Each host has the machine's folders: in their place these are its own.
  for (const folder of FOLDERS) {
    await must('node1', `mkdir -p ${folder} ${PLACE}/own${folder}`);
    await must('node1', `mount --bind ${PLACE}/own${folder} ${folder}`);
  }
  await must('node1', 'cp', `${process.cwd()}/dist/contiv-cni`, '/opt/cni/bin/');
  await feed('node1', CONTAINERS, `tee ${PLACE}/containers.conf`);
  await feed('node1', CONTAINERD, `tee ${PLACE}/containerd.toml`);
  await feed('node1', conflist('web', 'contiv-net'), 'tee /etc/cni/net.d/20-web.conflist');
  await feed('node1', conflist('other', 'other-net'), 'tee /etc/cni/net.d/21-other.conflist');
  await podman(`import -q /var/lib/contiv-lab/image.tar ${IMAGE}`);
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await netctl('net create other-net --subnet=30.1.1.0/24 --gateway=30.1.1.254');
  await netctl('policy create closed');
  await netctl('policy rule-add closed 1 -direction=in -protocol=tcp -action=deny');
  await netctl('policy rule-add closed 2 -direction=in -protocol=tcp -port=8080 -action=allow -priority=10');
  await netctl('group create contiv-net web -policy=closed');
});
afterAll(async () => {
  await on('node1', `${PODMAN} rm -af -t 0`);
  for (const folder of FOLDERS) await on('node1', `umount ${folder}`);
  // Its overlay folder is a mount of itself.
  await on('node1', 'sh -c', `umount -l ${PLACE}/images/overlay; rm -rf ${PLACE}`);
  await clear();
});

describe('a container of Podman’s', () => {
  it('is in a group with those of Docker’s: policy holds both ways, and each resolves the other', async () => {
    await podman(`run -d --name box --pull=never --network web:alias=shop ${IMAGE} sleep 100000`);
    const web = await run('node2', 'web1', 'web.contiv-net');
    const box = await addressOf('box');
    expect(box).toMatch(/^20\.1\.1\./);
    for (const port of [8080, 9090]) {
      await docker('node2', `exec web1 httpd -p ${port}`);
      await podman(`exec box httpd -p ${port}`);
    }
    await until('Podman’s reaches Docker’s', () => reaches('box', web, 8080));
    expect(await reaches('box', web, 9090)).toBe(false);
    await until('and the other way', () => reachesFromDocker('node2', 'web1', box, 8080));
    expect(await reachesFromDocker('node2', 'web1', box, 9090)).toBe(false);
    for (const name of ['box', 'shop']) await until(name, () => pings('node2', 'web1', name));
    await until('web1', async () => (await within('box', 'ping -c 1 -W 2 web1')).status === 0);
    expect(await differences()).toBe('');
  });

  it('has an address of the network again when it was stopped and started, or reloaded', async () => {
    await podman('stop -t 0 box');
    await until('it is detached', async () => (await attached()).length === 0);
    await podman('start box');
    expect(await attached()).toEqual(['box eth0']);
    const started = await addressOf('box');
    await until('it is reached', () => pings('node2', 'web1', 'box'));
    await podman('network reload box');
    expect(await addressOf('box')).toBe(started);
    expect(await attached()).toEqual(['box eth0']);
    await until('it is reached', () => pings('node2', 'web1', 'box'));
  });

  it('is on another network beside, while it runs', async () => {
    await podman('network connect other box');
    expect(await attached()).toEqual(['box eth0', 'box eth1']);
    expect(await addressOf('box', 'eth1')).toMatch(/^30\.1\.1\./);
    expect((await within('box', 'ping -c 1 -W 2 30.1.1.254')).status).toBe(0);
    await podman('network disconnect other box');
    expect(await attached()).toEqual(['box eth0']);
    expect(await differences()).toBe('');
  });

  it('has the address, the MAC address and the port of the host that are asked for', async () => {
    await podman(
      `run -d --name pub --pull=never --network web:ip=20.1.1.77,mac=02:02:14:01:01:99 -p 8081:8080 ${IMAGE} httpd -f -p 8080`,
    );
    expect(await addressOf('pub')).toBe('20.1.1.77');
    expect((await within('pub', 'cat /sys/class/net/eth0/address')).out.trim()).toBe('02:02:14:01:01:99');
    const node1 = JSON.parse(await mustLab('status --json')).hosts[0].address;
    const status = async () => (await on('outside', `busybox nc -w 3 ${node1} 8081 -e true`)).status;
    await until('it is reached from outside', async () => (await status()) === 0);
  });

  it('leaves nothing when it is removed', async () => {
    await podman('rm -f -t 0 box pub');
    expect(await attached()).toEqual([]);
    await docker('node2', 'rm -f web1');
    expect(await differences()).toBe('');
    expect(await must('node1', 'sh -c', 'ls /run/netns | grep -v ^contiv- || true')).toBe('');
  });
});

describe('a container of containerd’s', () => {
  beforeAll(async () => {
    await must(
      'node1',
      'sh -c',
      `containerd -c ${PLACE}/containerd.toml >${PLACE}/containerd.log 2>&1 & echo $! >${PLACE}/containerd.pid`,
    );
    await until(
      'containerd answers',
      async () => (await on('node1', `ctr --address ${PLACE}/containerd.sock version`)).status === 0,
    );
    await podman(`save -q -o ${PLACE}/image.tar ${IMAGE}`);
    await ctr(`image import --no-unpack ${PLACE}/image.tar`);
  });
  afterAll(() => on('node1', 'sh -c', `kill $(cat ${PLACE}/containerd.pid)`));

  it('that ctr starts is in the first configuration’s network, and leaves nothing', async () => {
    await ctr(`run --cni -d --snapshotter native ${IMAGE}:latest box sleep 100000`);
    expect(await attached()).toEqual(['default-box eth0']);
    const web = await run('node2', 'web1', 'contiv-net');
    await until(
      'it reaches one of Docker’s',
      async () =>
        (
          await on(
            'node1',
            `ctr --address ${PLACE}/containerd.sock task exec --exec-id p1 box ping -c 1 -W 2 ${web}`,
          )
        ).status === 0,
    );
    expect(await differences()).toBe('');
    await on('node1', `ctr --address ${PLACE}/containerd.sock task kill -s 9 box`);
    await until('it has ended', async () => (await ctr('task ls')).includes('STOPPED'));
    await ctr('task rm box');
    await ctr('container rm box');
    await until('it is detached', async () => (await attached()).length === 0);
    await docker('node2', 'rm -f web1');
    expect(await differences()).toBe('');
  });
});
