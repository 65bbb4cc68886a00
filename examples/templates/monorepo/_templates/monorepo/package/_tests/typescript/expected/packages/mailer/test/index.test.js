import assert from "node:assert/strict";
import test from "node:test";

import { name } from "../dist/index.js";

test("has its name", () => {
  assert.equal(name, "@acme/mailer");
});
