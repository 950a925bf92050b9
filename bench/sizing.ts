/**
 * What netmaster takes on a machine, by what it keeps: memory, disk, its backup, and what a first list is for an agent. One netmaster on
 * SQLite, as the program that it is; groups with ten rules each, and endpoints as an agent tells them.
 *
 *   node bench/sizing.ts [ENDPOINTS...]      (default 1000 5000)
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { connect } from '../src/client/client.ts';
import { megabytes } from './numbers.ts';

const COMMAND = path.join(import.meta.dirname, '../bin/netmaster');
const PORT = 19_790;
const AT_ONCE = 16;

const mac = (i: number): string =>
  `02:00:00:${[i >> 16, i >> 8, i].map((part) => (part & 255).toString(16).padStart(2, '0')).join(':')}`;

/** `rules` are ten for each group, and a group is for ten endpoints. */
async function measure(endpoints: number): Promise<string[]> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sizing-'));
  const url = `http://127.0.0.1:${PORT}`;
  const flags = ['--listen', `127.0.0.1:${PORT}`, '--store', `sqlite:${folder}/m.db`, '--log-level', 'fatal'];
  const server = spawn(COMMAND, flags, { stdio: 'ignore' });
  const client = connect({ urls: [url], timeoutMs: 600_000 });
  try {
    for (;;)
      if (
        await client.call('version').then(
          () => true,
          () => false,
        )
      )
        break;
      else await new Promise((done) => setTimeout(done, 50));
    const groups = Math.ceil(endpoints / 10);
    const objects: Record<string, unknown>[] = [
      { kind: 'network', networkName: 'n', subnet: '10.128.0.0/12' },
    ];
    for (let g = 0; g < groups; g++) {
      objects.push({ kind: 'policy', policyName: `p${g}` });
      objects.push({ kind: 'endpointGroup', groupName: `g${g}`, networkName: 'n', policies: [`p${g}`] });
      for (let i = 0; i < 10; i++)
        objects.push({
          ...{ kind: 'rule', policyName: `p${g}`, ruleId: `${i}`, direction: 'in' },
          ...{ action: 'allow', protocol: 'tcp', port: 1000 + i },
        });
    }
    await client.call('apply', {}, { objects });
    const host = { name: 'node1', underlay: '10.0.0.1', mtu: 1500, version: 'sizing' };
    await client.call('register', { name: 'node1' }, host);
    const beating = setInterval(() => void client.call('register', { name: 'node1' }, host), 3000);
    let next = 0;
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (next < endpoints) {
          const i = next++;
          const of = { tenantName: 'default', networkName: 'n', groupName: `g${i % groups}` };
          const { body } = await client.call('reserve', {}, { ...of, family: 4, host: 'node1' });
          await client.call(
            'attach',
            { id: `e${i}`, host: 'node1', wait: '0' },
            {
              ...of,
              ...{
                endpointID: `e${i}`,
                containerName: `c${i}`,
                homingHost: 'node1',
                ipAddress: [body.address],
              },
              ...{ macAddress: mac(i), status: 'running' as const },
            },
          );
        }
      }),
    );
    clearInterval(beating);
    const started = performance.now();
    let bytes = 0;
    const stop = new AbortController();
    for await (const message of client.watch({ signal: stop.signal })) {
      bytes += JSON.stringify(message).length;
      if (message.type === 'synced') stop.abort();
    }
    const list = performance.now() - started;
    const backup = String((await client.call('backup')).body).length;
    const most = megabytes(server.pid, 'status', 'VmHWM');
    const disk = ['m.db', 'm.db-wal'].reduce((sum, name) => sum + fs.statSync(`${folder}/${name}`).size, 0);
    const shown = (count: number): string => (count / 1024 / 1024).toFixed(1);
    return [
      `${endpoints}`,
      `${groups * 10}`,
      most.toFixed(0),
      shown(disk),
      shown(backup),
      `${shown(bytes)} in ${Math.round(list)} ms`,
    ];
  } finally {
    client.close();
    const ended = once(server, 'close');
    server.kill('SIGTERM');
    await ended;
    fs.rmSync(folder, { recursive: true });
  }
}

const wanted = process.argv.slice(2).map(Number);
console.log('endpoints | rules | memory, most of it (MB) | store (MB) | backup (MB) | list of a watch (MB)');
for (const count of wanted.length === 0 ? [1000, 5000] : wanted)
  console.log((await measure(count)).join(' | '));
