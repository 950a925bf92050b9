/**
 * contiv's objects as CustomResourceDefinitions, from their schemas, for the chart and the manifests. Only what a field is
 * stands there, not what it may hold: netmaster says that, in its own words, in the object's status.
 */
import type { TSchema } from '@sinclair/typebox';
import { stringify } from 'yaml';
import { kindByName } from '../src/model/kinds.ts';
import { DECLARED, GROUP } from '../src/netkube/declared.ts';

const NAMES: Readonly<Record<string, string>> = {
  tenant: 'Tenant',
  network: 'Network',
  policy: 'Policy',
  netprofile: 'NetProfile',
  endpointGroup: 'EndpointGroup',
  externalEndpoint: 'ExternalEndpoint',
  rule: 'Rule',
};

/** Columns of `kubectl get`. */
const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  tenant: [],
  network: ['tenantName', 'subnet', 'gateway', 'ipv6Subnet', 'ipv6Gateway'],
  policy: ['tenantName'],
  netprofile: ['tenantName', 'bandwidth'],
  endpointGroup: ['tenantName', 'networkName', 'policies'],
  externalEndpoint: ['tenantName', 'groupName', 'ipAddress', 'healthCheck'],
  rule: ['policyName', 'direction', 'action', 'protocol', 'protocols', 'port', 'ports'],
};

/** As a structural schema (apiextensions). */
function property(schema: TSchema): object {
  const description = schema.description === undefined ? {} : { description: schema.description };
  if (Array.isArray(schema.anyOf))
    return { type: 'string', enum: schema.anyOf.map((one: TSchema) => one.const), ...description };
  if (schema.type === 'array') return { type: 'array', items: property(schema.items), ...description };
  // A record: of any names.
  const values = schema.patternProperties && { additionalProperties: { type: 'string' } };
  return { type: schema.type, ...values, ...description };
}

const condition = (type: string, field: string): string =>
  `.status.conditions[?(@.type=="${type}")].${field}`;

function definition({ kind, resource }: (typeof DECLARED)[number]): object {
  const { schema } = kindByName.get(kind) as { schema: { properties: Record<string, TSchema> } };
  const [name, { properties }] = [NAMES[kind] as string, schema];
  const column = (field: string) => ({
    name: `${field[0]?.toUpperCase()}${field.slice(1)}`,
    type: properties[field]?.type === 'integer' ? 'integer' : 'string',
    jsonPath: `.spec.${field}`,
  });
  const text = { type: 'string' };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${resource}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: 'Cluster',
      names: {
        kind: name,
        listKind: `${name}List`,
        plural: resource,
        singular: name.toLowerCase(),
        categories: ['contiv'],
      },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: [
            ...(COLUMNS[kind] ?? []).map(column),
            { name: 'Accepted', type: 'string', jsonPath: condition('Accepted', 'status') },
            { name: 'Applied', type: 'string', jsonPath: condition('Applied', 'status') },
            { name: 'Message', type: 'string', jsonPath: condition('Accepted', 'message') },
          ],
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: {
                  type: 'object',
                  properties: Object.fromEntries(
                    Object.entries(properties).map(([field, schema]) => [field, property(schema)]),
                  ),
                },
                status: {
                  type: 'object',
                  properties: {
                    conditions: {
                      type: 'array',
                      'x-kubernetes-list-type': 'map',
                      'x-kubernetes-list-map-keys': ['type'],
                      items: {
                        type: 'object',
                        required: ['type', 'status'],
                        properties: {
                          type: text,
                          status: text,
                          reason: text,
                          message: text,
                          observedGeneration: { type: 'integer' },
                          lastTransitionTime: { type: 'string', format: 'date-time' },
                        },
                      },
                    },
                  },
                },
              },
            },
          },
        },
      ],
    },
  };
}

export const customResources = (): string =>
  [
    '# Written by `make docs` from the schemas: change those, not this file.',
    ...DECLARED.map(
      (kind) => `---\n${stringify(definition(kind), { lineWidth: 0, aliasDuplicateObjects: false })}`,
    ),
  ].join('\n');
