/**
 * A test process of the kernel's own: from here on this thread and what it starts have a network namespace and a
 * mount namespace of their own, with an empty /run/netns. Nothing that a test does shows on the machine, nothing of
 * the machine (a running lab, a real agent's routers) shows to the test, and all of it goes with the process, also
 * when that is killed.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { mount, unshare } from '../src/linux/libc.ts';

const CLONE_NEWNS = 0x20000;
const CLONE_NEWNET = 0x40000000;
const MS_REC = 16384;
const MS_PRIVATE = 1 << 18;

/** Once in a test file, before anything else. Vitest runs each file in a process of its own. */
export function isolate(): void {
  fs.mkdirSync('/run/netns', { recursive: true });
  unshare(CLONE_NEWNS);
  mount('', '/', 'none', MS_REC | MS_PRIVATE, null);
  mount('tmpfs', '/run/netns', 'tmpfs', 0, null);
  isolateNetwork();
}

/** The network only: devices, addresses and rules of the thread and of what it starts are nobody else's. */
export function isolateNetwork(): void {
  unshare(CLONE_NEWNET);
  sh('ip link set lo up');
}

/** A shell command's output, in the thread's current namespace. Throws what it said where it fails. */
export function sh(command: string): string {
  return execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
