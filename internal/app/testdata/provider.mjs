// A provider that rotates its keys as its documentation says: by being started again with others. Its requests go on meanwhile.
import { createServer } from 'node:http'
import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'
import { answer } from './answer.mjs'

let now = 0
Date.now = () => now // its clock is the test's

const keys = new Map() // by kid
const served = {} // requests by path
let clients, current
const server = createServer((request, response) => {
  served[request.url] = (served[request.url] ?? 0) + 1
  current(request, response)
})
server.keepAliveTimeout = 0 // none: a connection that is closed as it is used again would be a failure of the test
const issuer = () => `http://127.0.0.1:${server.address().port}`

async function keyOf(kid) {
  if (!keys.has(kid)) {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true })
    keys.set(kid, { ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig' })
  }
  return keys.get(kid)
}

// The first key signs.
async function publish(kids) {
  const provider = new Provider(issuer(), {
    clients: clients.map(({ id, secret }) => ({
      client_id: id, client_secret: secret, grant_types: ['client_credentials'], redirect_uris: [], response_types: [], id_token_signed_response_alg: 'ES256',
    })),
    ttl: { ClientCredentials: 3600 },
    jwks: { keys: await Promise.all(kids.map(keyOf)) },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: '', audience: 'writ', accessTokenFormat: 'jwt', accessTokenTTL: 3600, jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  current = provider.callback()
}

await answer({
  start: async (args) => {
    now = args.now
    clients = args.clients
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
    await publish(args.keys)
    return issuer()
  },
  publish: ({ keys }) => publish(keys),
  time: (args) => { now = args.now },
  served: () => served,
})
