/** Tokens and certificates: bodies and answers, as in messages.ts. */
import { type Static, Type } from '@sinclair/typebox';

const Name = Type.String({ minLength: 1, maxLength: 253 });
/** A signing request, PKCS #10: DER in base64. */
const SigningRequest = Type.String({ maxLength: 4096 });
const Time = Type.String({ description: 'ISO 8601' });

export const TenantsSchema = Type.Array(Type.String({ minLength: 1, maxLength: 63 }), {
  minItems: 1,
  maxItems: 100,
  uniqueItems: true,
});

export const TOKEN_ROLES = ['join', 'reader', 'operator', 'orchestrator', 'admin'] as const;
const TokenRole = Type.Union(TOKEN_ROLES.map((role) => Type.Literal(role)));

export const TokenRequestSchema = Type.Object(
  {
    /** `join`: one host gets its certificate by it, once. */
    role: TokenRole,
    /** What it is called in lists and events. */
    name: Type.Optional(Type.String({ minLength: 1, maxLength: 63, pattern: '^[A-Za-z0-9._@-]+$' })),
    /** Until it ends; a year at most. */
    seconds: Type.Integer({ minimum: 1, maximum: 366 * 86_400 }),
    /** Of a join token: the only host that it is for. */
    host: Type.Optional(Name),
    /** Whose it is for: of an operator's token one at least, of a reader's all where absent. */
    tenants: Type.Optional(TenantsSchema),
  },
  { additionalProperties: false },
);
export type TokenRequest = Static<typeof TokenRequestSchema>;

/** The token itself is told once, here, and kept nowhere. */
export const TokenAnswerSchema = Type.Object({ id: Type.String(), token: Type.String(), expires: Time });
export type TokenAnswer = Static<typeof TokenAnswerSchema>;

export const ListedTokenSchema = Type.Object({
  id: Type.String(),
  role: TokenRole,
  name: Type.Optional(Type.String()),
  host: Type.Optional(Type.String()),
  tenants: Type.Optional(Type.Array(Type.String())),
  expires: Time,
  /** The host that has its certificate by it. */
  usedBy: Type.Optional(Type.String()),
  /** It is a session, which netctl login has got. */
  session: Type.Optional(Type.Literal(true)),
});
export type ListedToken = Static<typeof ListedTokenSchema>;

export const JoinRequestSchema = Type.Object(
  // That of a service account is a JWT, of a kilobyte or so.
  { token: Type.String({ maxLength: 8192 }), name: Name, request: SigningRequest },
  { additionalProperties: false },
);

export const CertificateRequestSchema = Type.Object(
  { request: SigningRequest },
  { additionalProperties: false },
);

/** Both as PEM. */
export const CertificateAnswerSchema = Type.Object({
  certificate: Type.String(),
  /** Of the authority. */
  authority: Type.String(),
});
export type CertificateAnswer = Static<typeof CertificateAnswerSchema>;

/** A session is a token that netctl login has got. */
export const SHOWN = ['certificate', 'token', 'session', 'nothing'] as const;

/** Who asks, as its certificate or token says. */
export const WhoamiSchema = Type.Object({
  /** Of ROLES (access.ts); admin where nobody is asked who it is. */
  role: Type.String(),
  /** Of the operator, the token, the host. */
  name: Type.Optional(Type.String()),
  /** All that it may see and change something of; absent: the whole cluster. */
  tenants: Type.Optional(Type.Array(Type.String())),
  /** `nothing`: netmaster has no certificates, and everybody may do everything. */
  shown: Type.Union(SHOWN.map((shown) => Type.Literal(shown))),
  /** When the session or the token ends, ISO 8601. */
  expires: Type.Optional(Time),
});
export type Whoami = Static<typeof WhoamiSchema>;
