// A caller and a verifier that know nothing of Writ but its URL, the RFCs and what it publishes.
import { createHash, X509Certificate } from 'node:crypto'
import { calculateJwkThumbprint, createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose'
import { answer } from './answer.mjs'

const keys = new Map() // of proofs, by algorithm
const published = new Map() // key sets as they were found, by name

async function keyOf(alg) {
  if (!keys.has(alg)) keys.set(alg, await generateKeyPair(alg))
  return keys.get(alg)
}

async function get(url) {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${url}: ${response.status}`)
  return response.json()
}

const base64url = (hash) => hash.digest('base64url')

// verify is jwtVerify as RFC 9068 section 4 asks for, at a time of the test's choice.
const verify = ({ token, set, issuer, audience, at }) =>
  jwtVerify(token, published.get(set), { issuer, audience, typ: 'at+jwt', currentDate: new Date(at * 1000), requiredClaims: ['exp', 'iat', 'jti', 'sub', 'client_id'] })

await answer({
  // call makes a call with a proof of possession (RFC 9449).
  call: async ({ alg, method, url, token, body }) => {
    const { publicKey, privateKey } = await keyOf(alg)
    const proof = await new SignJWT({ htm: method, htu: url, ath: base64url(createHash('sha256').update(token)), jti: crypto.randomUUID() })
      .setProtectedHeader({ typ: 'dpop+jwt', alg, jwk: await exportJWK(publicKey) }).setIssuedAt().sign(privateKey)
    const response = await fetch(url, {
      method, body: body && JSON.stringify(body), headers: { 'Authorization': `DPoP ${token}`, 'DPoP': proof, ...(body && { 'Content-Type': 'application/json' }) },
    })
    return { status: response.status, body: await response.json() }
  },
  thumbprint: async ({ alg }) => calculateJwkThumbprint(await exportJWK((await keyOf(alg)).publicKey), 'sha256'),
  certificate: ({ der }) => {
    const { raw, fingerprint256 } = new X509Certificate(Buffer.from(der, 'base64'))
    const hash = base64url(createHash('sha256').update(raw))
    if (Buffer.from(hash, 'base64url').toString('hex').toUpperCase() !== fingerprint256.replaceAll(':', '')) throw new Error('node disagrees with itself')
    return hash
  },
  // discover finds the keys (RFC 8414), and keeps them under a name; it never looks again.
  discover: async ({ issuer, set }) => {
    const metadata = await get(`${issuer}/.well-known/oauth-authorization-server`)
    if (metadata.issuer !== issuer) throw new Error(`RFC 8414 section 3.3: ${metadata.issuer} is not ${issuer}`)
    const remote = createRemoteJWKSet(new URL(metadata.jwks_uri), { cooldownDuration: Infinity, cacheMaxAge: Infinity })
    await remote.reload()
    published.set(set, remote)
    return { jwks_uri: metadata.jwks_uri, kids: remote.jwks().keys.map((key) => key.kid) }
  },
  verify: async (args) => {
    const { payload, protectedHeader } = await verify(args)
    return { payload, header: protectedHeader }
  },
  // tamper changes one bit of each byte of the header, the claims and the signature, and counts what is refused, and why.
  tamper: async (args) => {
    const parts = args.token.split('.').map((part) => Buffer.from(part, 'base64url'))
    const refused = {}
    const accepted = []
    for (const [n, part] of parts.entries()) {
      for (let i = 0; i < part.length; i++) {
        const changed = parts.map((bytes) => Buffer.from(bytes))
        changed[n][i] ^= 1 << (i % 8)
        try {
          await verify({ ...args, token: changed.map((bytes) => bytes.toString('base64url')).join('.') })
          accepted.push([n, i])
        } catch (error) {
          if (!error.code?.startsWith('ERR_J')) throw error
          refused[error.code] = (refused[error.code] ?? 0) + 1
        }
      }
    }
    return { refused, accepted, bytes: parts.reduce((sum, part) => sum + part.length, 0) }
  },
})
