import assert from "node:assert/strict";
import test from "node:test";

import { answer } from "../src/server.js";

test("is healthy", () => {
  assert.deepEqual(answer("/healthz"), [200, "ok\n"]);
});

test("counts requests", () => {
  answer("/nothing");
  assert.match(answer("/metrics")[1], /mail_requests_total\{path="\/nothing"\} 1/);
});
