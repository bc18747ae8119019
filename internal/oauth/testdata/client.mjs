// An OAuth client that others wrote, on Writ as any authorization server. It knows nothing of Writ but its URL.
import { request } from 'node:https'
import * as client from 'openid-client'
import { answer } from './answer.mjs'

let config, handle

// A fetch that shows a client certificate.
function certified({ cert, key, ca }) {
  return (url, { method, headers, body }) => new Promise((resolve, reject) => {
    const asked = request(url, { method, headers: { ...headers }, cert, key, ca, agent: false }, async (got) => {
      const parts = []
      for await (const part of got) parts.push(part)
      resolve(new Response(Buffer.concat(parts), { status: got.statusCode, headers: new Headers(Object.entries(got.headers)) }))
    })
    asked.on('error', reject)
    asked.end(body?.toString())
  })
}

// What the library says of an answer, or of a refusal.
async function told(promise) {
  try {
    return { answer: await promise }
  } catch (error) {
    if (error instanceof client.ResponseBodyError || error instanceof client.WWWAuthenticateChallengeError) {
      return { error: error.error ?? error.code, status: error.status, cause: error.cause }
    }
    throw error
  }
}

const dpop = () => (handle ? { DPoP: handle } : undefined)

await answer({
  // discover finds everything by the issuer's URL (RFC 8414), and authenticates by an assertion or by a certificate.
  discover: async ({ now, url, id, type, assertion, certificate }) => {
    Date.now = () => now // its clock is the test's
    const authenticate = certificate
      ? client.TlsClientAuth()
      : (server, registered, body) => {
          body.set('client_assertion', assertion)
          body.set('client_assertion_type', type)
        }
    config = await client.discovery(new URL(url), id, undefined, authenticate, {
      algorithm: 'oauth2',
      ...(certificate && { [client.customFetch]: certified(certificate) }),
    })
    handle = undefined
    return config.serverMetadata()
  },
  prove: async () => { handle = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) },
  thumbprint: () => handle.calculateThumbprint(),
  credentials: (parameters) => told(client.clientCredentialsGrant(config, parameters, dpop())),
  exchange: (parameters) => told(client.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', parameters, dpop())),
  redeem: ({ auth_req_id, expires_in, interval }) => told(client.pollBackchannelAuthenticationGrant(config, { auth_req_id, expires_in, interval }, undefined, dpop())),
  introspect: ({ token }) => told(client.tokenIntrospection(config, token)),
  revoke: ({ token }) => told(client.tokenRevocation(config, token)),
})
