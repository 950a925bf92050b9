/** The policy that is measured with. */
export type DeclaredRule = Readonly<Record<string, unknown>>;

/**
 * A hundred rules of one direction: most by port, a few of them only for peers in a group or a prefix. None fits a
 * connection to a port that is measured, but the last in precedence, which lets TCP pass: it decides.
 */
export function hundredRules(
  policyName: string,
  direction: 'in' | 'out',
  group: (i: number) => string,
  prefix: (i: number) => string,
): DeclaredRule[] {
  const side = direction === 'in' ? 'from' : 'to';
  const rules = Array.from({ length: 99 }, (_, i): DeclaredRule => {
    const peer =
      i % 10 === 0
        ? { [`${side}EndpointGroup`]: group(i) }
        : i % 25 === 1
          ? { [`${side}IpAddress`]: prefix(i) }
          : {};
    return {
      kind: 'rule',
      policyName,
      ruleId: `${direction}${i}`,
      direction,
      action: i % 2 === 0 ? 'allow' : 'deny',
      priority: 2 + (i % 50),
      protocol: 'tcp',
      port: 1000 + i,
      ...peer,
    };
  });
  const last = {
    kind: 'rule',
    policyName,
    ruleId: `${direction}last`,
    direction,
    action: 'allow',
    priority: 1,
  };
  return [...rules, { ...last, protocol: 'tcp' }];
}
