// The vectors against the JavaScript client's pure modules. Run: node --test vectors.test.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { advice, applyDelta, canonical, DeltaError, fromSnapshot, RpcError } from "../../protocol/js/index.js";

const cases = (file) => JSON.parse(readFileSync(new URL(file, import.meta.url), "utf8"));

for (const { name, state, delta, expect } of cases("feed.json")) {
  test(`feed: ${name}`, () => {
    const before = fromSnapshot(state);
    if (expect === "mismatch") {
      assert.throws(() => applyDelta(before, delta), DeltaError);
      return;
    }
    const after = applyDelta(before, delta);
    for (const [member, value] of Object.entries(expect)) {
      if (member === "ids") assert.deepEqual(after.items.map((item) => item.id), value);
      else if (member === "context") assert.deepEqual(byKey(after.context), byKey(value));
      else assert.deepEqual(after[member], value);
    }
  });
}

for (const { name, states, got, delta } of cases("conflation.json")) {
  test(`conflation: ${name}`, () => {
    const before = fromSnapshot({ feed: "alice", cursor: "c1", at: "", items: states[got] });
    const after = applyDelta(before, { feed: "alice", base: "c1", cursor: "c2", at: "", ...delta });
    assert.deepEqual(after.items, states.at(-1));
  });
}

for (const { name, random, ends } of cases("close_codes.json")) {
  test(`close codes: ${name}`, () => {
    let failures = 0;
    let refusals = 0;
    for (const { code, reason, expect } of ends) {
      assert.deepEqual(advice(code, reason, { failures, refusals }, () => random), expect);
      failures += 1;
      if (code === 4401) refusals += 1;
    }
  });
}

for (const { name, error, temporary } of cases("error_objects.json")) {
  test(`errors: ${name}`, () => {
    const raised = new RpcError(error);
    assert.equal(raised.code, error.code);
    assert.equal(raised.temporary, temporary);
    assert.deepEqual(raised.data, error.data);
  });
}

function byKey(entries) {
  return entries.map((entry) => [canonical(entry.key), entry.value]).sort();
}
