/**
 * Label selectors, as Kubernetes has them (apimachinery, meta/v1 LabelSelector): all of `matchLabels` and all of
 * `matchExpressions` hold; an empty selector takes everything.
 */
import { type Static, Type } from '@sinclair/typebox';
import { oneLine } from './text.ts';

const Label = Type.String({ minLength: 1, maxLength: 317 });
const Value = Type.String({ maxLength: 63 });

export const LabelsSchema = Type.Record(Label, Type.String({ maxLength: 4096 }));
export type Labels = Readonly<Record<string, string>>;

export const SelectorSchema = Type.Object(
  {
    matchLabels: Type.Optional(Type.Record(Label, Value)),
    matchExpressions: Type.Optional(
      Type.Array(
        Type.Object(
          {
            key: Label,
            operator: Type.Union(
              ['In', 'NotIn', 'Exists', 'DoesNotExist'].map((name) =>
                Type.Literal(name as 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'),
              ),
            ),
            /** For In and NotIn. */
            values: Type.Optional(Type.Array(Value)),
          },
          { additionalProperties: false },
        ),
      ),
    ),
  },
  { additionalProperties: false },
);
export type Selector = Static<typeof SelectorSchema>;

/** What is wrong with a selector that the schema lets pass. */
export function selectorProblem({ matchLabels, matchExpressions = [] }: Selector): string | undefined {
  for (const key of [...Object.keys(matchLabels ?? {}), ...matchExpressions.map((e) => e.key)]) {
    const wrong = labelProblem(key);
    if (wrong !== undefined) return wrong;
  }
  for (const { key, operator, values = [] } of matchExpressions) {
    const takes = operator === 'In' || operator === 'NotIn';
    if (takes && values.length === 0)
      return `operator ${operator} of label '${oneLine(key, 80)}' needs values, at least one`;
    if (!takes && values.length > 0)
      return `operator ${operator} of label '${oneLine(key, 80)}' takes no values`;
  }
  return undefined;
}

const LABEL_KEY =
  /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;

/** Why it is no label's key. */
export const labelProblem = (key: string): string | undefined =>
  LABEL_KEY.test(key)
    ? undefined
    : `'${oneLine(key, 80)}' is no label's key: 1 to 63 letters, digits, '-', '_' or '.', behind a DNS name and '/' or not`;

/** Answers for many labels whether they are selected. NotIn and DoesNotExist take what has no such label. */
export function matcherOf(selector: Selector): (labels: Labels) => boolean {
  const wanted = Object.entries(selector.matchLabels ?? {});
  const expressions = (selector.matchExpressions ?? []).map(({ key, operator, values }) => {
    const among = new Set(values);
    return (labels: Labels): boolean => {
      const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      const found = value !== undefined && among.has(value);
      return operator === 'In' ? found : !found;
    };
  });
  return (labels) =>
    wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value) &&
    expressions.every((holds) => holds(labels));
}
