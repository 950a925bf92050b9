/**
 * A workload: what an orchestrator says of something that runs or is about to, as a Kubernetes pod: where it belongs and its labels.
 * Its endpoint refers to it; what rules select by labels are workloads.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { EndpointGroup } from './endpointGroup.ts';
import type { Kind, Problem } from './kind.ts';
import { checkLabel } from './names.ts';
import { LabelsSchema, labelProblem } from './selector.ts';
import { oneLine } from './text.ts';

export const WorkloadSchema = Type.Object(
  {
    namespaceName: Type.String({ description: "orchestrator's namespace", minLength: 1, maxLength: 63 }),
    workloadName: Type.String({ description: 'name of the pod', minLength: 1, maxLength: 253 }),
    uid: Type.String({
      description: "orchestrator's id: a pod of the same name that comes later has another",
      minLength: 1,
      maxLength: 128,
    }),
    tenantName: Type.String({ description: 'tenant that it runs in', minLength: 1, maxLength: 63 }),
    networkName: Type.String({ description: 'network that it is in', minLength: 1, maxLength: 63 }),
    groupName: Type.Optional(Type.String({ description: 'endpoint group that it is in', maxLength: 63 })),
    labels: Type.Optional(LabelsSchema),
    /** Those of its namespace. */
    namespaceLabels: Type.Optional(LabelsSchema),
    /** Its ports by name: rules may name them. `protocol`: IANA number. */
    ports: Type.Optional(
      Type.Array(
        Type.Object(
          {
            name: Type.String({ minLength: 1, maxLength: 63 }),
            protocol: Type.Integer({ minimum: 0, maximum: 255 }),
            port: Type.Integer({ minimum: 1, maximum: 65535 }),
          },
          { additionalProperties: false },
        ),
      ),
    ),
    /** Bits a second, from its annotations. */
    ingressBandwidth: Type.Optional(Type.Integer({ minimum: 1000, maximum: 1e15 })),
    egressBandwidth: Type.Optional(Type.Integer({ minimum: 1000, maximum: 1e15 })),
  },
  { $id: 'workload', additionalProperties: false },
);
export type Workload = Static<typeof WorkloadSchema>;

/** Of a key, as people call it: `shop/web-1`. */
export const workloadName = (key: string): string => key.replace(':', '/');

/**
 * What is said to decide where an endpoint is a workload's that is not known, as one whose pod is gone or is another of that name: nobody
 * knows which policies judge it, so it is denied everything.
 */
export const UNKNOWN_WORKLOAD = 'unknown workload';

export const workload: Kind<typeof WorkloadSchema> = {
  name: 'workload',
  collection: 'workloads',
  schema: WorkloadSchema,
  keyFields: ['namespaceName', 'workloadName'],
  updatable: true,
  references: [
    { field: 'tenantName', kind: 'tenant', keys: (w) => [w.tenantName] },
    { field: 'networkName', kind: 'network', keys: (w) => [`${w.tenantName}:${w.networkName}`] },
    {
      field: 'groupName',
      kind: 'endpointGroup',
      keys: (w) => (w.groupName ? [`${w.tenantName}:${w.groupName}`] : []),
    },
  ],
  forTenants: {},
  orchestrated: true,
  forOrchestrators: true,
  check(w, world) {
    const wrong = (field: keyof Workload, text: string): Problem => ({
      field,
      status: 400,
      message: `workload ${w.namespaceName}:${w.workloadName}: ${field} ${text}`,
    });
    const named =
      checkLabel('workload', 'namespaceName', w.namespaceName) ??
      (SUBDOMAIN.test(w.workloadName)
        ? undefined
        : wrong(
            'workloadName',
            "must be lower case letters, digits, '-' and '.', a letter or digit at both ends",
          ));
    if (named !== undefined) return named;
    for (const field of ['labels', 'namespaceLabels'] as const)
      for (const key of Object.keys(w[field] ?? {})) {
        const problem = labelProblem(key);
        if (problem !== undefined) return wrong(field, problem);
      }
    const ports = new Set<string>();
    for (const { name, protocol, port } of w.ports ?? []) {
      const text = `${name} ${protocol} ${port}`;
      if (!PORT_NAME.test(name))
        return wrong('ports', `'${oneLine(name, 80)}' must be a name of letters, digits and '-'`);
      if (ports.has(text)) return wrong('ports', `has ${name}, port ${port} of protocol ${protocol}, twice`);
      ports.add(text);
    }
    const group = w.groupName
      ? world.get<EndpointGroup>('endpointGroup', `${w.tenantName}:${w.groupName}`)
      : undefined;
    if (group !== undefined && group.networkName !== w.networkName)
      return wrong(
        'groupName',
        `is ${w.groupName}, which is in network ${group.networkName}, not in ${w.networkName}`,
      );
    return undefined;
  },
};

const SUBDOMAIN = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;
const PORT_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/;
