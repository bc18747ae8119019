// Answers the questions of a test: one JSON object a line on standard input, one a line on standard output.
import { createInterface } from 'node:readline'

globalThis.console = new console.Console(process.stderr) // standard output is for answers alone

// answer gives each handler its question's arguments. What a handler throws is a refusal with the code of the error.
export async function answer(handlers) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { ask, args } = JSON.parse(line)
    let reply
    try {
      if (!Object.hasOwn(handlers, ask)) throw new TypeError(`the script does not know ${ask}`)
      reply = { result: (await handlers[ask](args)) ?? null }
    } catch (error) {
      reply = { refused: { code: error.code ?? '', message: `${error.name}: ${error.message}` } }
    }
    process.stdout.write(JSON.stringify(reply) + '\n')
  }
  process.exit(0) // the test has ended
}
