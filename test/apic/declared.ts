/** What tests of both ways into a fabric declare alike: the groups of policy p of tenant blue are reached by group web, at port 80. */
export const RULE = {
  tenantName: 'blue',
  policyName: 'p',
  ruleId: '1',
  direction: 'in',
  fromEndpointGroup: 'web',
  protocol: 'tcp',
  port: 80,
  priority: 1,
  action: 'allow',
} as const;
