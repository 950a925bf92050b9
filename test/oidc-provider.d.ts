/** It comes without types; of it the tests use this. */
declare module 'oidc-provider' {
  export default class Provider {
    constructor(issuer: string, configuration: object);
    callback(): (request: object, response: object) => void;
  }
}
