/**
 * An OpenID provider, at which people log in by the device flow (RFC 8628): they open its page in a browser of whatever machine and enter
 * a code, while netctl asks netmaster for what has come of it.
 *
 *   netctl --login/device--> netmaster --device authorization--> provider        userCode, url, deviceCode
 *   person ------------------------------browser--------------> provider        logs in, says yes
 *   netctl --login/device/end, deviceCode--> netmaster --token--> provider      an ID token
 *
 * The ID token comes to netmaster from the provider itself and goes nowhere else: nobody can show netmaster one that was given to
 * another program. oauth4webapi holds it to what OpenID Connect Core 3.1.3.7 asks for (issuer, audience, times, algorithm), and its
 * signature to the provider's keys. It is loaded with this file, which is loaded only where a provider is configured.
 */
import https from 'node:https';
import * as oauth from 'oauth4webapi';
import type { Device } from '../protocol/login.ts';
import type { ProviderOptions } from './oidcOptions.ts';
import { Refusal } from './problem.ts';

/** Who has logged in there. */
export interface Person {
  /** Of the provider, and of this person for ever. */
  readonly subject: string;
  /** `oidc:alice`: what is said of it in lists and events. */
  readonly name: string;
  readonly groups: readonly string[];
}

/** Nobody has decided yet; `slower`: seconds that are to be added between two questions. */
export interface Pending {
  readonly slower?: number;
}

export interface Provider {
  /** Throws a Refusal where the provider is not to be asked. */
  look(): Promise<void>;
  begin(): Promise<Device>;
  /** Throws a Refusal where nothing comes of it any more. */
  end(deviceCode: string): Promise<Person | Pending>;
}

/** Milliseconds for an answer of the provider. */
const TIMEOUT = 10_000;
const ANSWER_BYTES = 1 << 20;
/** Milliseconds for which what the provider says of itself is believed. */
const KEPT = 3_600_000;
/** Seconds by which the two clocks may differ. */
const CLOCKS = 30;
/** RFC 8628, 3.2 and 3.5. */
const INTERVAL = 5;
const SLOWER = 5;

export function openProvider(options: ProviderOptions): Provider {
  const { issuer, client: id, secret, ca, scopes, nameClaim, groupsClaim } = options;
  const what = `OpenID provider ${issuer}`;
  const client: oauth.Client = { client_id: id, [oauth.clockTolerance]: CLOCKS };
  const agent = new https.Agent({ keepAlive: false, ...(ca === undefined ? {} : { ca }) });
  const how = { [oauth.customFetch]: fetchBy(agent) };
  let known: { readonly server: oauth.AuthorizationServer; readonly until: number } | undefined;

  async function server(): Promise<oauth.AuthorizationServer> {
    if (known !== undefined && known.until > performance.now()) return known.server;
    const url = new URL(issuer);
    const found = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, how));
    known = { server: found, until: performance.now() + KEPT };
    return found;
  }

  function shown({
    token_endpoint_auth_methods_supported: known,
  }: oauth.AuthorizationServer): oauth.ClientAuth {
    if (secret === undefined) return oauth.None();
    const posts = known !== undefined && !known.includes('client_secret_basic');
    return posts ? oauth.ClientSecretPost(secret) : oauth.ClientSecretBasic(secret);
  }

  function personOf(claims: oauth.IDToken): Person {
    const { [groupsClaim]: groups, [nameClaim]: said, sub } = claims;
    const name = typeof said === 'string' && said !== '' ? said : sub;
    const list = typeof groups === 'string' ? [groups] : groups;
    if (!Array.isArray(list))
      throw new Refusal(
        403,
        `${what}: its ID token for ${name} has no groups, claim ${groupsClaim}: --oidc-groups-claim and --oidc-scopes of netmaster say what is asked for`,
      );
    return {
      subject: sub,
      name: `oidc:${name.replace(/[^\w.@-]/g, '_').slice(0, 63)}`,
      groups: list.filter((group) => typeof group === 'string'),
    };
  }

  /** In one line, whoever is to do something about it. */
  async function told<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Refusal) throw error;
      const [status, why] = reasonOf(error as Error, options);
      throw new Refusal(status, `${what}: ${why}`);
    }
  }

  return {
    look: () => told(async () => void (await server())),
    begin: () =>
      told(async () => {
        const as = await server();
        const request = await oauth.deviceAuthorizationRequest(as, client, shown(as), { scope: scopes }, how);
        const begun = await oauth.processDeviceAuthorizationResponse(as, client, request);
        const { verification_uri_complete: complete } = begun;
        return {
          deviceCode: begun.device_code,
          userCode: begun.user_code,
          url: begun.verification_uri,
          ...(complete === undefined ? {} : { complete }),
          interval: begun.interval ?? INTERVAL,
          expiresIn: begun.expires_in,
        };
      }),
    end: (deviceCode) =>
      told(async () => {
        const as = await server();
        const response = await oauth.deviceCodeGrantRequest(as, client, shown(as), deviceCode, how);
        let claims: oauth.IDToken | undefined;
        try {
          claims = oauth.getValidatedIdTokenClaims(
            await oauth.processDeviceCodeResponse(as, client, response),
          );
        } catch (error) {
          const said = error instanceof oauth.ResponseBodyError ? error.error : '';
          if (said === 'authorization_pending') return {};
          if (said === 'slow_down') return { slower: SLOWER };
          throw error;
        }
        if (claims === undefined)
          throw new Refusal(503, `${what}: gives no ID token: --oidc-scopes must have openid`);
        await oauth.validateApplicationLevelSignature(as, response, how);
        return personOf(claims);
      }),
  };
}

const NO_CLIENT = ({ client, secret }: ProviderOptions): string =>
  `does not take netmaster for client ${client}${secret === undefined ? ' without a secret' : ' by its secret'}: --oidc-client, --oidc-secret-file`;

/** With the status: 503 is for who runs netmaster to mend, or the provider. */
function reasonOf(error: Error, options: ProviderOptions): [status: number, why: string] {
  if (error instanceof oauth.WWWAuthenticateChallengeError) return [503, NO_CLIENT(options)];
  if (error instanceof oauth.ResponseBodyError) {
    const said = OF_ANSWERS[error.error];
    if (said !== undefined) return said;
    if (/^(?:invalid|unauthorized)_client$/.test(error.error)) return [503, NO_CLIENT(options)];
    return [503, `refuses: ${error.error}${error.error_description ? `, ${error.error_description}` : ''}`];
  }
  const { code = '', cause } = error as NodeJS.ErrnoException & { cause?: Readonly<Record<string, unknown>> };
  if (code === oauth.JWT_TIMESTAMP_CHECK)
    return [
      503,
      `its ID token does not hold at this time, ${new Date().toISOString()} here: the clock of netmaster's machine is wrong, or the provider's`,
    ];
  if (code === oauth.JSON_ATTRIBUTE_COMPARISON && cause?.attribute === 'issuer') {
    const { issuer } = (cause.body ?? {}) as { issuer?: unknown };
    return [503, `calls itself ${String(issuer)}: --oidc-issuer must be the same`];
  }
  if (code === oauth.JWT_CLAIM_COMPARISON)
    return [503, `its ID token is not for netmaster, by its ${String(cause?.claim)}`];
  if (code === oauth.MISSING_SERVER_METADATA || code === oauth.INVALID_SERVER_METADATA)
    return [503, `does not say where its device flow is: it has none, or does not allow it`];
  if (/^(?:E[A-Z]+(?:_AGAIN)?)$/.test(code)) return [503, `cannot be reached from netmaster: ${code}`];
  if (/^(?:CERT_|ERR_TLS_|UNABLE_|SELF_SIGNED|DEPTH_ZERO)/.test(code))
    return [503, `its certificate does not hold here, ${code}: --oidc-ca names who signs it`];
  return [503, `answers what is no OpenID Connect: ${error.message}`];
}

/** RFC 8628, 3.5; RFC 6749, 5.2. */
const OF_ANSWERS: Readonly<Record<string, [status: number, why: string]>> = {
  access_denied: [403, 'the login was refused there'],
  expired_token: [401, 'the code has ended: netctl login --oidc again'],
  invalid_grant: [401, 'the code has ended, was used, or is none of its own: netctl login --oidc again'],
  invalid_scope: [503, 'does not know what --oidc-scopes asks for'],
};

/** By an authority of one's own, within bounds, and following nobody elsewhere. */
function fetchBy(agent: https.Agent) {
  return (url: string, { method, headers, body }: oauth.CustomFetchOptions<string, unknown>) =>
    new Promise<Response>((done, fail) => {
      const text = body === undefined || body === null ? undefined : String(body);
      const request = https.request(url, { agent, method, headers, timeout: TIMEOUT }, (answer) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        answer.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes > ANSWER_BYTES)
            request.destroy(new Error(`an answer of more than ${ANSWER_BYTES} bytes`));
        });
        answer.on('error', fail);
        answer.on('end', () => {
          const { statusCode: status = 0, headers: said } = answer;
          const fields = Object.entries(said).flatMap(([name, value]): [string, string][] =>
            value === undefined ? [] : [[name, String(value)]],
          );
          done(
            new Response(status === 204 || status === 304 ? null : Buffer.concat(chunks), {
              status,
              headers: fields,
            }),
          );
        });
      });
      // Idle, or slow: the whole has no longer than that.
      const late = setTimeout(() => request.destroy(new Error(`no answer in ${TIMEOUT / 1000} s`)), TIMEOUT);
      request.on('timeout', () => request.destroy(new Error(`no answer in ${TIMEOUT / 1000} s`)));
      request.on('error', fail);
      request.on('close', () => clearTimeout(late));
      request.end(text);
    });
}
