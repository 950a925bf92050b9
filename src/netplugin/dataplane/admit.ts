/**
 * dockerd sets the FORWARD policy to DROP, which no accept in another nftables chain undoes. DOCKER-USER is the
 * chain that Docker keeps free for others: what comes and goes by the routers' exits is let through there. What may really pass is decided in our own
 * table, whose drops are final. Through the iptables programs, since only they know which of the two kernel
 * interfaces (legacy or nf_tables) Docker's rules are in.
 */
import { execFile } from 'node:child_process';
import { DEVICE_PREFIXES } from '../constants.ts';

const CHAIN = 'DOCKER-USER';
const EXITS = `${DEVICE_PREFIXES.exit}+`;
const RULES = [
  ['-i', EXITS, '-j', 'ACCEPT'],
  ['-o', EXITS, '-j', 'ACCEPT'],
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

/** Programs by which our rules have been put in. */
const admitted = new Set<string>();

/** Puts our rules in, or takes them out. Answers what somebody else had taken out, one line each. */
export async function admitForwarding(wanted: boolean): Promise<string[]> {
  const repaired: string[] = [];
  for (const program of ['iptables', 'ip6tables']) {
    if (!wanted) {
      for (const rule of RULES) await run(program, ['-D', CHAIN, ...rule]);
      admitted.delete(program);
      continue;
    }
    if ((await run(program, ['-n', '-L', CHAIN])) !== 0) {
      admitted.delete(program); // no Docker, or none yet
      continue;
    }
    for (const rule of RULES) {
      if ((await run(program, ['-C', CHAIN, ...rule])) === 0) continue;
      const done = (await run(program, ['-I', CHAIN, ...rule])) === 0;
      if (done && admitted.has(program))
        repaired.push(`host: restored ${program} -I ${CHAIN} ${rule.join(' ')}`);
    }
    admitted.add(program);
  }
  return repaired;
}
