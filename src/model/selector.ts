/**
 * Label selectors, as Kubernetes has them (apimachinery, meta/v1 LabelSelector): all of `matchLabels` and all of
 * `matchExpressions` hold; an empty selector takes everything.
 */
import { type Static, Type } from '@sinclair/typebox';

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
