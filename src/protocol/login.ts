/** People: users with passwords, and sessions, which they get by those or from an OpenID provider. Bodies and answers, as in messages.ts. */
import { type Static, Type } from '@sinclair/typebox';
import { TenantsSchema } from './security.ts';

/** As in events and lists; people of an OpenID provider have `oidc:` in front, which no user has. */
const UserName = Type.String({ minLength: 1, maxLength: 63, pattern: '^[A-Za-z0-9][A-Za-z0-9._@-]*$' });
/** What is asked of a new one: a phrase, of whatever characters (NIST SP 800-63B). */
const NewPassword = Type.String({ minLength: 12, maxLength: 256 });
const Password = Type.String({ maxLength: 256 });
const Time = Type.String({ description: 'ISO 8601' });

export const USER_ROLES = ['reader', 'operator', 'admin'] as const;
const UserRole = Type.Union(USER_ROLES.map((role) => Type.Literal(role)));

export const UserRequestSchema = Type.Object(
  { name: UserName, role: UserRole, tenants: Type.Optional(TenantsSchema), password: NewPassword },
  { additionalProperties: false },
);
export type UserRequest = Static<typeof UserRequestSchema>;

export const ListedUserSchema = Type.Object({
  name: Type.String(),
  role: UserRole,
  tenants: Type.Optional(Type.Array(Type.String())),
  /** When the password was set. */
  since: Time,
  /** Sessions that have not ended. */
  sessions: Type.Integer(),
});
export type ListedUser = Static<typeof ListedUserSchema>;

/** By an admin. */
export const PasswordRequestSchema = Type.Object({ password: NewPassword }, { additionalProperties: false });

/** By the user himself. */
export const OwnPasswordRequestSchema = Type.Object(
  { current: Password, password: NewPassword },
  { additionalProperties: false },
);

export const LoginRequestSchema = Type.Object(
  { name: UserName, password: Password },
  { additionalProperties: false },
);

/** The token is told once, here, and shown as any other. */
export const SessionSchema = Type.Object({
  token: Type.String(),
  /** `operator alice`. */
  whom: Type.String(),
  expires: Time,
});
export type Session = Static<typeof SessionSchema>;

/** RFC 8628, 3.2. */
export const DeviceSchema = Type.Object({
  /** Of who asks alone, as a secret. */
  deviceCode: Type.String(),
  /** To be entered at `url`, in a browser anywhere. */
  userCode: Type.String(),
  url: Type.String(),
  /** The same with the code in it, where the provider has that. */
  complete: Type.Optional(Type.String()),
  /** Seconds between two questions. */
  interval: Type.Number(),
  /** Seconds. */
  expiresIn: Type.Number(),
});
export type Device = Static<typeof DeviceSchema>;

export const DeviceRequestSchema = Type.Object(
  { deviceCode: Type.String({ minLength: 1, maxLength: 2048 }) },
  { additionalProperties: false },
);

/** Without a session: nobody has decided yet. Ask again, by so many seconds later than before (RFC 8628, 3.5). */
export const DeviceAnswerSchema = Type.Object({
  session: Type.Optional(SessionSchema),
  slower: Type.Optional(Type.Integer()),
});
