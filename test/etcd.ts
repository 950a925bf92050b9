/** An etcd cluster of real members on this machine, in a folder and on ports of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openMembers } from '../src/store/etcd/members.ts';
import { freePort } from './ports.ts';

export interface Member {
  readonly endpoint: string;
  readonly pid: number;
  signal(signal: NodeJS.Signals): void;
  /** With the data that it has; when it has begun. */
  start(): void;
  /** It is part of the cluster, which has a leader. */
  isHealthy(): Promise<boolean>;
  /** By SIGKILL; when it has ended. */
  kill(): Promise<void>;
}

export interface EtcdCluster {
  readonly endpoints: readonly string[];
  readonly members: readonly Member[];
  /** Forgets all history so far. */
  compact(): Promise<void>;
  close(): Promise<void>;
}

export async function startEtcd(count = 3): Promise<EtcdCluster> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'etcd-'));
  const places = await Promise.all(
    Array.from({ length: count }, async (_, i) => ({
      name: `m${i}`,
      client: `127.0.0.1:${await freePort()}`,
      peer: `127.0.0.1:${await freePort()}`,
    })),
  );
  const members = places.map(({ name, client, peer }) => {
    let child: ChildProcess | undefined;
    const member: Member = {
      endpoint: client,
      get pid() {
        return child?.pid ?? 0;
      },
      signal: (signal) => void child?.kill(signal),
      start() {
        const args = {
          name,
          'data-dir': path.join(folder, name),
          'listen-client-urls': `http://${client}`,
          'advertise-client-urls': `http://${client}`,
          'listen-peer-urls': `http://${peer}`,
          'initial-advertise-peer-urls': `http://${peer}`,
          'initial-cluster': places.map((p) => `${p.name}=http://${p.peer}`).join(','),
          // What is killed here is a process: what it has written, the kernel has.
          'unsafe-no-fsync': 'true',
          logger: 'zap',
          'log-outputs': path.join(folder, `${name}.log`),
        };
        child = spawn(
          'etcd',
          Object.entries(args).map(([flag, value]) => `--${flag}=${value}`),
          { stdio: 'ignore', env: { PATH: process.env.PATH } },
        );
      },
      isHealthy: () =>
        fetch(`http://${client}/health`, { signal: AbortSignal.timeout(2000) }).then(
          ({ ok }) => ok,
          () => false,
        ),
      async kill() {
        const ending = child;
        if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
        const ended = new Promise((done) => ending.once('exit', done));
        ending.kill('SIGKILL');
        await ended;
      },
    };
    return member;
  });
  const endpoints = members.map(({ endpoint }) => endpoint);
  const clients = openMembers({ endpoints });
  async function close(): Promise<void> {
    clients.close();
    await Promise.all(members.map((member) => member.kill()));
    fs.rmSync(folder, { recursive: true, force: true });
  }
  for (const member of members) member.start();
  try {
    for (let i = 0; ; i++)
      try {
        await clients.call('txn', {});
        break;
      } catch (error) {
        if (i === 2) throw error;
        await sleep(100);
      }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    endpoints,
    members,
    async compact() {
      // What is of the revision itself is kept.
      const bump = { put: { key: Buffer.from('filler'), value: Buffer.alloc(0) } };
      const { header } = await clients.call('txn', { success: [bump] });
      await clients.call('compact', { revision: Number(header.revision), physical: true });
    },
    close,
  };
}
