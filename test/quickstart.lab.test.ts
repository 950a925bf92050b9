import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  addressOf,
  background,
  clear,
  differences,
  docker,
  inside,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

beforeAll(async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254 --pkt-tag=1001');
  await docker('node1', 'run -itd --name=web --net=contiv-net contiv/lab sh');
  await docker('node2', 'run -itd --name=db --net=contiv-net contiv/lab sh');
  await until('names', () => pings('node1', 'web', 'db'));
});
afterAll(clear);

describe('the quick start', () => {
  it('gives the second and third host address to the first two containers', async () => {
    expect(await addressOf('node1', 'web')).toBe('20.1.1.2');
    expect(await addressOf('node2', 'db')).toBe('20.1.1.3');
  });

  it('answers a ping by name from another host with ttl=64', async () => {
    const { out, status } = await inside('node1', 'web', 'ping -c 2 -W 2 db');
    expect(status).toBe(0);
    expect(out).toMatch(/64 bytes from 20\.1\.1\.3: .*ttl=64/);
  });

  it('sends VXLAN with the tag of the network between the hosts, and no ARP of containers', async () => {
    // From port 9 is what the agent itself puts into the device, to see whether a firewall is in the way (dataplane/observe/probe.ts).
    const capture = background('node2', "tcpdump -lnni eth0 'udp dst port 4789 and not src port 9'");
    await until('capture', async () => capture.lines.some((l) => l.includes('listening on')));
    await until('packets', async () => {
      await inside('node1', 'web', 'ping -c 2 20.1.1.3');
      return capture.lines.some((l) => l.includes('echo reply'));
    });
    // An address that nobody has: what would have been flooded.
    await inside('node1', 'web', 'ping -c 1 -W 1 20.1.1.99');
    await capture.end();
    const text = capture.lines.join('\n');
    expect(text).toMatch(/VXLAN.*vni 1001/);
    expect(text).not.toMatch(/vni (?!1001\b)/);
    expect(text).not.toMatch(/ARP/);
  });

  it('sets the MTU to the underlay less the encapsulation, and large packets pass unfragmented', async () => {
    expect((await inside('node1', 'web', 'cat /sys/class/net/eth0/mtu')).out.trim()).toBe('1450');
    const { status } = await inside('node1', 'web', 'ping -c 1 -W 2 -s 1422 20.1.1.3');
    expect(status).toBe(0);
  });

  it('is invisible to traceroute within a network', async () => {
    const { out } = await inside('node1', 'web', 'traceroute -n -q1 -w 2 20.1.1.3');
    expect(out).toMatch(/\n 1 {2}20\.1\.1\.3 /);
  });

  it('leaves no difference between what runs, the kernels, names and netmaster', async () => {
    expect(await differences()).toBe('');
  });

  it('passes on exit status, standard input and environment through lab exec', async () => {
    expect((await on('node1', "sh -c 'exit 7'")).status).toBe(7);
    expect((await on('node1', 'hostname')).out.trim()).toBe('node1');
    expect((await on('node1', "sh -c 'echo $NETMASTER'")).out.trim()).toMatch(/^https:/);
    expect((await on('node9', 'true')).status).toBe(3);
  });

  it('refuses a network that exists with exit status 3 and one line', async () => {
    const { status, err } = await on('node1', 'netctl net create contiv-net --subnet=20.1.1.0/24');
    expect(status).toBe(3);
    expect(err.trim().split('\n')).toEqual([
      'netctl: network default:contiv-net exists already: --pkt-tag is 1001 and cannot change to unset: delete it and create it anew',
    ]);
  });

  it('refuses to delete a network with containers and names them', async () => {
    const { status, err } = await on('node1', 'netctl net rm contiv-net');
    expect(status).toBe(3);
    expect(err).toMatch(/in use by .*container (web|db)/);
  });

  it('does not let a second lab of the same name start', async () => {
    await expect(mustLab('up')).rejects.toThrow(/is up/);
  });

  it('gives the first host address last', async () => {
    await netctl('net create tiny --subnet=20.2.2.0/29 --gateway=20.2.2.6');
    const addresses: string[] = [];
    for (let i = 0; i < 5; i++) addresses.push(await run('node1', `t${i}`, 'tiny'));
    expect(addresses).toEqual(['20.2.2.2', '20.2.2.3', '20.2.2.4', '20.2.2.5', '20.2.2.1']);
    const { status, err } = await on('node1', 'docker run --rm --net=tiny contiv/lab true');
    expect(status).not.toBe(0);
    expect(err).toMatch(/all addresses of 20\.2\.2\.0\/29 are taken/);
  });
});
