/** What is done in a churn (churn.ts) for a while: faults, changes of what may pass, and changes that are to change nothing. */
import { type Churn, HOSTS, type Host, historyOf, overlaps, pause, randomOf } from './churn.ts';
import { between, fault, GRACE } from './churnFaults.ts';
import { FLOWS, now } from './churnPackets.ts';
import { readHistoryFile, violations } from './history.ts';
import { lab } from './lab.ts';

/** Milliseconds between two looks at the history: a run that is lost ends. */
const LOOK = 60_000;

/** Runs it until netmaster has taken it; answers the hosts that have applied it by then, as far as netmaster said so. */
async function persist(churn: Churn, ...args: readonly string[]): Promise<Host[]> {
  for (let tries = 1; ; tries++) {
    const { status, err } = await lab('--name', churn.lab, 'exec', 'node1', '--', 'netctl', ...args);
    if (status === 0) return tries === 1 ? HOSTS.filter((h) => !err.includes(h)) : [];
    // After one whose answer was lost there is nothing left to do, and nothing that hosts are waited for.
    if (tries > 1 && /does not exist|exists/.test(err)) return [];
    if (tries === 100) throw new Error(`netctl ${args.join(' ')}: ${err}`);
    await pause(200);
  }
}

/** Denies and allows a port again and again, and notes when it was denied everywhere. */
async function change(
  churn: Churn,
  goesOn: () => boolean,
  port: number,
  { deny, allow }: { deny: readonly string[]; allow: readonly string[] },
): Promise<void> {
  const random = randomOf(churn, port);
  const allowing = (): void => {
    for (const interval of [...(churn.denied.get(port)?.values() ?? [])].flat())
      if (interval.to === Number.POSITIVE_INFINITY) interval.to = now();
  };
  while (goesOn()) {
    allowing();
    await persist(churn, ...allow);
    await pause(between(random, 500, 2500));
    const asked = now();
    const applied = await persist(churn, ...deny);
    const answered = now();
    for (const h of applied)
      if (!overlaps(churn.away.get(h) ?? [], asked, answered))
        churn.denied.get(port)?.get(h)?.push({ from: answered, to: Number.POSITIVE_INFINITY });
    await pause(between(random, 1000, 4000));
  }
  allowing();
}

/** Rules and groups that change nothing of what is looked at. */
async function noise(churn: Churn, goesOn: () => boolean): Promise<void> {
  const random = randomOf(churn, 1);
  for (let i = 0; goesOn(); i++) {
    await persist(
      churn,
      ...['policy', 'rule-add', 'noise', `n${i % 7}`, '-direction=in', '-protocol=tcp'],
      ...[`-port=${9000 + (i % 7)}`, '-action=deny', '-priority=5'],
    );
    await pause(between(random, 200, 1000));
    await persist(churn, 'policy', 'rule-rm', 'noise', `n${i % 7}`);
  }
}

/** Looks at the history as long as it grows. */
async function judge(churn: Churn, goesOn: () => boolean): Promise<string[]> {
  for (let next = now() + LOOK; goesOn(); ) {
    await pause(200);
    if (now() < next) continue;
    next = now() + LOOK;
    const wrong = await violations(readHistoryFile(historyOf(churn)));
    if (wrong.length > 0) return wrong;
  }
  return [];
}

/** All of it for so long, and until everything runs again. Throws at once where the history of an object is not linearisable. */
export async function runChurn(churn: Churn, seconds: number): Promise<void> {
  let end = now() + seconds * 1000;
  const goesOn = (): boolean => now() < end;
  const group = ['group', 'create', 'churn', 'flip'];
  const rule = ['-direction=in', '--from-group=evil', '-protocol=udp', `-port=${FLOWS.byRule}`];
  const doing = Promise.all([
    fault(churn, goesOn),
    change(churn, goesOn, FLOWS.byRule, {
      deny: ['policy', 'rule-rm', 'closed', 'some'],
      allow: ['policy', 'rule-add', 'closed', 'some', ...rule, '-action=allow', '-priority=10'],
    }),
    change(churn, goesOn, FLOWS.byGroup, { deny: [...group, '-policy=closed'], allow: group }),
    noise(churn, goesOn),
  ]);
  const judging = judge(churn, goesOn).then((wrong) => {
    if (wrong.length > 0) end = now();
    return wrong;
  });
  const [wrong] = await Promise.all([judging, doing]);
  if (wrong.length > 0) throw new Error(wrong.join('\n'));
  await pause(GRACE + 1000);
  // Everything answers again: each reads once more what has become of what it wrote.
  await churn.clients?.end('SIGTERM');
}
