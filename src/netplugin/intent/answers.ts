/**
 * netmaster's questions to this host (protocol/messages.ts, `ask`): what would the kernel do with a packet. The answer comes
 * from the kernel's own sets; what was compiled only names the rule that they number.
 */
import type { LiveAnswer, LiveQuestion } from '../../protocol/messages.ts';
import type { Dataplane } from '../dataplane/index.ts';
import type { HostState } from '../state.ts';

export async function answerLive(
  question: LiveQuestion,
  state: HostState,
  dataplane: Pick<Dataplane, 'lookUp'>,
): Promise<LiveAnswer> {
  const { tenant, ...asked } = question;
  const router = state.routers.find((r) => r.tenant === tenant);
  const found = router && (await dataplane.lookUp(router.namespace, asked));
  if (router === undefined || found === undefined)
    return { verdict: 'allow', rule: '', changed: [], problem: `there is no router of tenant ${tenant}` };
  const set = router.ruleSets.find((s) => s.id === found.ruleSet);
  const decision = set?.decisions.find((d) => d.rule === found.rule);
  return {
    verdict: found.denied ? 'deny' : 'allow',
    rule: found.rule === 0 ? '' : (decision?.key ?? `number ${found.rule}, which no rule here has`),
    changed: [...found.changed],
  };
}
