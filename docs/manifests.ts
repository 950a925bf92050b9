/**
 * packaging/kubernetes/manifests/ from the chart beside it, with the chart's own values: what `helm template` gives, for those without
 * helm. The templates keep to what is read here; test/chart.kubernetes.test.ts asks helm too.
 *
 *   {{- if .Values.x }} ... {{- end }} on lines of their own     {{ .Values.x.y }}     {{ required "..." .Values.x }}     {{ .Release.Namespace }}
 */
import fs from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { customResources } from './customResources.ts';

const PACKAGING = path.join(import.meta.dirname, '../packaging/kubernetes');
const CHART = path.join(PACKAGING, 'chart');
export const NAMESPACE = 'contiv-system';
/** For what must be given: words that whoever applies the manifests puts addresses in place of. */
export const GIVEN = { 'netmaster.url': 'https://NETMASTER:9999', 'kubernetes.host': 'KUBERNETES' };

/** Every file that is made, by its path below packaging/kubernetes. */
export function manifests(): Map<string, string> {
  const crds = customResources();
  const values: unknown = parse(fs.readFileSync(path.join(CHART, 'values.yaml'), 'utf8'));
  const templates = fs.readdirSync(path.join(CHART, 'templates')).sort();
  return new Map([
    ['chart/crds/contiv.yaml', crds],
    ['manifests/00-crds.yaml', crds],
    ...templates.map((name): [string, string] => [
      `manifests/${name}`,
      render(fs.readFileSync(path.join(CHART, 'templates', name), 'utf8'), values, name),
    ]),
  ]);
}

export function writeManifests(): void {
  for (const [file, text] of manifests()) fs.writeFileSync(path.join(PACKAGING, file), text);
}

function render(template: string, values: unknown, name: string): string {
  const lookUp = (dotted: string): unknown => {
    const given = (GIVEN as Record<string, string>)[dotted];
    const value = given ?? dotted.split('.').reduce((in_, key) => (in_ as never)?.[key], values);
    if (value === undefined) throw new Error(`${name}: .Values.${dotted} is not in values.yaml`);
    return value;
  };
  const shown: boolean[] = [];
  const lines = template.split('\n').flatMap((line) => {
    const condition = /^\{\{- if \.Values\.([\w.]+) \}\}$/.exec(line)?.[1];
    if (condition !== undefined) shown.push(Boolean(lookUp(condition)));
    else if (line === '{{- end }}') shown.pop();
    else if (shown.every((each) => each)) return [line];
    return [];
  });
  const text = lines
    .join('\n')
    .replaceAll('{{ .Release.Namespace }}', NAMESPACE)
    .replace(
      /\{\{ (?:required "[^"]*" )?\.Values\.([\w.]+) \}\}/g,
      (_, dotted: string) => `${lookUp(dotted)}`,
    );
  const left = /\{\{.*/.exec(text)?.[0];
  if (left !== undefined) throw new Error(`${name}: '${left}' is not among what docs/manifests.ts reads`);
  return `# Written by \`make docs\` from the chart: change that, not this file.\n${text}`;
}
