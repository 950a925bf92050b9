/**
 * dockerd sets the FORWARD policy to DROP, which no accept in another nftables chain undoes. DOCKER-USER is the
 * chain that Docker keeps free for others: our exits are let through there. What may really pass is decided in our own
 * table, whose drops are final. Through the iptables programs, since only they know which of the two kernel
 * interfaces (legacy or nf_tables) Docker's rules are in.
 */
import { execFile } from 'node:child_process';
import type { HostState } from '../state.ts';

const CHAIN = 'DOCKER-USER';
const RULES = [
  ['-i', 'cx+', '-j', 'ACCEPT'],
  ['-o', 'cx+', '-j', 'ACCEPT'],
];

/** Exit status and what was said; 127 where there is no such program. */
function run(program: string, args: readonly string[]): Promise<number> {
  return new Promise((done) => {
    execFile(program, ['-w', '5', ...args], (error) => {
      const code = (error as { code?: number | string } | null)?.code;
      done(error === null ? 0 : typeof code === 'number' ? code : 127);
    });
  });
}

let admitted = false;

/** Looks at the first pass that has exits, and when verifying: dockerd may have been started or restarted. */
export async function admitForwarding(state: HostState, verify: boolean): Promise<void> {
  if (state.exits.length === 0 || (admitted && !verify)) return;
  admitted = true;
  for (const program of ['iptables', 'ip6tables']) {
    if ((await run(program, ['-n', '-L', CHAIN])) !== 0) continue; // no Docker, or none yet
    for (const rule of RULES)
      if ((await run(program, ['-C', CHAIN, ...rule])) !== 0) await run(program, ['-I', CHAIN, ...rule]);
  }
}
