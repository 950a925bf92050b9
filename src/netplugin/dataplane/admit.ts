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

/** What it printed; undefined where it failed, or there is no such program. */
function run(program: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((done) => {
    execFile(program, ['-w', '5', ...args], (error, out) => done(error === null ? out : undefined));
  });
}

/** Programs by which our rules have been put in. */
const admitted = new Set<string>();

/**
 * Puts our rules in, or takes them out. Answers what somebody else had taken out, one line each. A rule may be there twice: what an agent
 * that was killed had started to put in comes after the next one has looked. One of the two goes, so that each is there once.
 */
export async function admitForwarding(wanted: boolean): Promise<string[]> {
  const repaired: string[] = [];
  for (const program of ['iptables', 'ip6tables']) {
    const listed = await run(program, ['-S', CHAIN]);
    const before = admitted.has(program);
    if (listed === undefined || !wanted) admitted.delete(program);
    if (listed === undefined) continue; // no Docker, or none yet
    const lines = listed.split('\n');
    for (const rule of RULES) {
      const found = lines.filter((line) => line === `-A ${CHAIN} ${rule.join(' ')}`).length;
      for (let extra = wanted ? 1 : 0; extra < found; extra++) await run(program, ['-D', CHAIN, ...rule]);
      if (!wanted || found > 0) continue;
      const done = (await run(program, ['-I', CHAIN, ...rule])) !== undefined;
      if (done && before) repaired.push(`host: restored ${program} -I ${CHAIN} ${rule.join(' ')}`);
    }
    if (wanted) admitted.add(program);
  }
  return repaired;
}
