/** What of this machine a lab could change. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';

const sh = (command: string): string[] =>
  execFileSync('sh', ['-c', command], { encoding: 'utf8', maxBuffer: 1 << 26 }).split('\n');

/**
 * The network that labs are made from, which is the test's own by then (isolation.ts), and what has the lab's name; what kubelet would
 * set; and folders that labs mount into, which stay on the machine, empty.
 */
export function machine(lab: string): Record<string, string[]> {
  const own = (command: string): string[] => sh(command).filter((line) => line.includes(lab));
  return {
    namespaces: own('ip netns list'),
    links: sh('ip -o -d link | sed "s/^[0-9]*: //"'),
    addresses: sh('ip -o addr | sed "s/valid_lft .*//"'),
    routes: sh('ip route show table all; ip -6 route show table all').map((l) =>
      l.replace(/ expires .*/, ''),
    ),
    mounts: own('cut -d" " -f5- /proc/self/mountinfo'),
    firewall: sh('nft list ruleset; iptables-save; ip6tables-save').filter((l) => !/^[#:]|counter/.test(l)),
    sysctls: sh('sysctl -a 2>/dev/null | grep "^net\\." | grep -v "conntrack_count\\|\\.stable_secret"'),
    tunables: sh('sysctl vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys'),
    cgroups: own('find /sys/fs/cgroup -maxdepth 2 -name "lab-*"'),
    files: own('find /run/contiv-lab /var/lib/contiv-lab -maxdepth 1'),
    kubernetes: sh(
      'find /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers /etc/cni /opt/cni -type f 2>/dev/null || true',
    ),
    // Without those that have ended, for which init has not asked yet.
    processes: sh(
      `grep -l "lab-${lab}-" /proc/[0-9]*/cgroup 2>/dev/null | while read f; do grep -H "^State:.[^Z]" $(dirname $f)/status; done || true`,
    ),
  };
}

/** Processes of the lab only, by its hosts' mount namespaces, and its control groups for what is in containers. */
export function processesOf(lab: string, hosts: readonly string[], named: string): number[] {
  const spaces = hosts.map((host) => fs.statSync(`/run/contiv-lab/${lab}/${host}.mnt`).ino);
  return fs
    .readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const line = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        const inLab =
          spaces.includes(fs.statSync(`/proc/${pid}/ns/mnt`).ino) ||
          fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`lab-${lab}-`);
        return inLab && line.includes(named);
      } catch {
        return false; // it has ended
      }
    })
    .map(Number);
}
