import assert from "node:assert/strict";
import test from "node:test";

import { orders } from "../src/routes/orders.js";

const query = new URLSearchParams();
const path = "/orders";
const value = { number: 1, customerId: "5f0c1a52-6f0e-4a9e-9d0a-0d6a0f6d8b11", note: "text" };

test("makes, finds and deletes Order", () => {
  const made = orders({ method: "POST", path, query, body: value });
  assert.equal(made.status, 201);
  const id = (made.body as { id: string }).id;
  assert.equal(orders({ method: "GET", path: `${path}/${id}`, query, body: null }).status, 200);
  assert.equal(orders({ method: "DELETE", path: `${path}/${id}`, query, body: null }).status, 204);
  assert.equal(orders({ method: "GET", path: `${path}/${id}`, query, body: null }).status, 404);
});

test("refuses Order without number", () => {
  assert.equal(orders({ method: "POST", path, query, body: {} }).status, 400);
});
