/**
 * JSON schemas of what the API server takes, for kubeconform: of Kubernetes from the OpenAPI in its own module, and of custom resources from their
 * definitions. No registry has them ready made. They are strict: a field that the API does not know is a fault, where the API server itself drops it
 * and says nothing to most clients.
 *
 *   FOLDER/apps/v1/daemonset.json     FOLDER/v1/v1/secret.json     FOLDER/contiv.io/v1/network.json
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseAllDocuments } from 'yaml';
import { moduleFile } from './kubernetes.ts';

/** As kubeconform's --schema-location has it: a core kind's group is its version there. */
export const LOCATION = '{{.Group}}/{{.ResourceAPIVersion}}/{{.ResourceKind}}.json';

type Schema = Readonly<Record<string, unknown>>;
interface Definition extends Schema {
  readonly 'x-kubernetes-group-version-kind'?: readonly { group: string; version: string; kind: string }[];
}

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const PROPS = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps';
const ref = (name: string): Schema => ({ $ref: `#/definitions/${name}` });
/** What may be of several types the OpenAPI says in words alone, or as a string. */
const OTHERWISE: Readonly<Record<string, Schema>> = {
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { type: ['string', 'integer'] },
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { type: ['string', 'number'] },
  [`${PROPS}OrArray`]: { anyOf: [ref(PROPS), { type: 'array', items: ref(PROPS) }] },
  [`${PROPS}OrBool`]: { anyOf: [ref(PROPS), { type: 'boolean' }] },
  [`${PROPS}OrStringArray`]: { anyOf: [ref(PROPS), { type: 'array', items: { type: 'string' } }] },
};

/** Below it no object has a field that is not named; words for people are left out, and formats, which are Go's. */
function strict(schema: Schema): Schema {
  const { type, properties, required, items, additionalProperties, $ref, enum: values } = schema;
  const each = properties as Readonly<Record<string, Schema>> | undefined;
  return {
    ...{ type, required, $ref, enum: values },
    ...(each !== undefined && {
      properties: Object.fromEntries(Object.entries(each).map(([name, one]) => [name, strict(one)])),
      additionalProperties: false,
    }),
    ...(items !== undefined && { items: strict(items as Schema) }),
    ...(typeof additionalProperties === 'object' &&
      additionalProperties !== null && { additionalProperties: strict(additionalProperties as Schema) }),
  };
}

/** The schema with all that it refers to, each once: some refer to themselves. */
function whole(schema: Schema, definitions: ReadonlyMap<string, Schema>): Schema {
  const needed = new Map<string, Schema>();
  const gather = (from: Schema): void => {
    for (const [, name = ''] of JSON.stringify(from).matchAll(/"#\/definitions\/([^"]+)"/g)) {
      if (needed.has(name)) continue;
      const found = definitions.get(name);
      if (found === undefined) throw new Error(`Kubernetes' OpenAPI has no ${name}`);
      needed.set(name, found);
      gather(found);
    }
  };
  gather(schema);
  return { ...schema, definitions: Object.fromEntries(needed) };
}

/** Writes a file for each kind of Kubernetes, and for each that the definitions in `crds` (YAML) declare. */
export function writeSchemas(folder: string, crds: string): void {
  const file = moduleFile('k8s.io/kubernetes', 'api/openapi-spec/swagger.json');
  const told = JSON.parse(fs.readFileSync(file, 'utf8')) as { definitions: Record<string, Definition> };
  const definitions = new Map(
    Object.entries(told.definitions).map(([name, each]) => [name, OTHERWISE[name] ?? strict(each)]),
  );
  const write = (group: string, version: string, kind: string, schema: Schema): void => {
    const at = path.join(folder, group || version, version, `${kind.toLowerCase()}.json`);
    fs.mkdirSync(path.dirname(at), { recursive: true });
    fs.writeFileSync(at, JSON.stringify(whole(schema, definitions)));
  };
  // What stands for many kinds is none of its own, such as options of a deletion.
  for (const [name, { 'x-kubernetes-group-version-kind': kinds = [] }] of Object.entries(told.definitions))
    if (kinds.length === 1)
      for (const { group, version, kind } of kinds) write(group, version, kind, ref(name));
  for (const document of parseAllDocuments(crds)) {
    const { spec } = document.toJS() as {
      spec: {
        group: string;
        names: { kind: string };
        versions: { name: string; schema: { openAPIV3Schema: Schema } }[];
      };
    };
    for (const { name, schema } of spec.versions) {
      const own = strict(schema.openAPIV3Schema);
      const properties = {
        apiVersion: { type: 'string' },
        kind: { type: 'string' },
        metadata: ref(META),
        ...(own.properties as object),
      };
      write(spec.group, name, spec.names.kind, { ...own, properties });
    }
  }
}
