// A provider at which people log in, on the pages that it shows to developers.
import { createServer } from 'node:http'
import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'
import { answer } from './answer.mjs'

let now = 0
Date.now = () => now // its clock is the test's

const server = createServer((request, response) => provider.callback()(request, response))
server.keepAliveTimeout = 0 // none: a connection that is closed as it is used again would be a failure of the test
let provider

await answer({
  start: async ({ now: time, clients, groups }) => {
    now = time
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
    const { privateKey } = await generateKeyPair('ES256', { extractable: true })
    const issuer = `http://localhost:${server.address().port}`
    provider = new Provider(issuer, {
      clients: clients.map(({ id, secret, redirect }) => ({
        client_id: id,
        ...(secret ? { client_secret: secret } : { token_endpoint_auth_method: 'none' }),
        redirect_uris: [redirect],
        id_token_signed_response_alg: 'ES256',
        require_auth_time: true,
      })),
      claims: { groups: ['groups'] },
      conformIdTokenClaims: false, // groups are in the ID token too
      findAccount: (_, name) => ({ accountId: name, claims: () => ({ sub: name, groups: groups[name] ?? [] }) }),
      pkce: { required: () => true },
      cookies: { keys: ['a key of the test'] },
      jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'key', alg: 'ES256', use: 'sig' }] },
    })
    return issuer
  },
  time: (args) => { now = args.now },
})
