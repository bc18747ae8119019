import { answer } from './answer.mjs'
import { generalDecrypt } from 'jose'

await answer({
  echo: (args) => { console.log('aside'); return args },
  import: () => typeof generalDecrypt,
  version: () => process.version,
  environment: ({ name }) => process.env[name],
  fail: () => { throw Object.assign(new RangeError('too far'), { code: 'ERR_FAR' }) },
  end: () => process.exit(3),
  chatter: () => 'x'.repeat(5 << 20),
})
