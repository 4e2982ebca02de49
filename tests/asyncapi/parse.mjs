// node parse.mjs DOCUMENT   prints the parser's errors as JSON; exits with 1 if there is one
import { Parser, fromFile } from "@asyncapi/parser";

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const errors = diagnostics
  .filter((one) => one.severity === 0)
  .map((one) => ({ message: one.message, path: one.path.join(".") }));
const messages = document ? document.allMessages().all().map((one) => one.id()) : [];
console.log(JSON.stringify({ errors, messages }));
process.exit(document && !errors.length ? 0 : 1);
