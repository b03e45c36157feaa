// Reads an AsyncAPI document from standard input and says what is wrong with it: one diagnostic a line.

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
for (const { severity, code, path, message } of diagnostics) {
  if (severity <= 1) console.log(`${severity === 0 ? "error" : "warning"} ${code} at ${path.join(".")}: ${message}`);
}
console.log(`version ${document?.version() ?? "none"}, ${document?.operations().length ?? 0} operations`);
