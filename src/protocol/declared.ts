/** Whole clusters as one document of objects, each with its kind and its fields as in /api/v1/COLLECTION/. */
import { type Static, Type } from '@sinclair/typebox';
import { KINDS } from '../model/kinds.ts';

/** `{kind: 'network', networkName: 'contiv-net', subnet: '20.1.1.0/24'}`; the tenant is default where none is named. */
export type DeclaredObject = Readonly<Record<string, unknown>>;

export const ObjectSetSchema = Type.Object({
  objects: Type.Array(
    Type.Unsafe<DeclaredObject>(
      Type.Object(
        { kind: Type.Union(KINDS.map((k) => Type.Literal(k.name))) },
        { additionalProperties: true },
      ),
    ),
    { description: 'each with its kind and its fields as in its collection, in any order' },
  ),
});
export type ObjectSet = Static<typeof ObjectSetSchema>;

/** A side that is absent: the field is unset. */
export const FieldChangesSchema = Type.Record(
  Type.String(),
  Type.Object({ before: Type.Optional(Type.Unknown()), after: Type.Optional(Type.Unknown()) }),
);
export type FieldChanges = Static<typeof FieldChangesSchema>;

export const ObjectOutcomeSchema = Type.Object({
  kind: Type.String(),
  key: Type.String(),
  /** `absent`: it was to be deleted, and is not there. */
  result: Type.Union([
    Type.Literal('created'),
    Type.Literal('changed'),
    Type.Literal('unchanged'),
    Type.Literal('deleted'),
    Type.Literal('absent'),
  ]),
  /** Where created or changed. */
  fields: Type.Optional(FieldChangesSchema),
});
export type ObjectOutcome = Static<typeof ObjectOutcomeSchema>;

export const SetAnswerSchema = Type.Object({
  /** True: nothing was written, this is what would be. */
  dryRun: Type.Boolean(),
  /** Of the store. The same as before where everything was as declared. */
  revision: Type.Integer(),
  /** In the order of the request; behind them what was pruned. */
  objects: Type.Array(ObjectOutcomeSchema),
});
export type SetAnswer = Static<typeof SetAnswerSchema>;
