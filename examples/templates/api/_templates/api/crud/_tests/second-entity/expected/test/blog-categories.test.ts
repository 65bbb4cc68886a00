import assert from "node:assert/strict";
import test from "node:test";

import { blogCategories } from "../src/routes/blog-categories.js";

const query = new URLSearchParams();
const path = "/blog-categories";
const value = { title: "text", hidden: true };

test("makes, finds and deletes BlogCategory", () => {
  const made = blogCategories({ method: "POST", path, query, body: value });
  assert.equal(made.status, 201);
  const id = (made.body as { id: string }).id;
  assert.equal(blogCategories({ method: "GET", path: `${path}/${id}`, query, body: null }).status, 200);
  assert.equal(blogCategories({ method: "DELETE", path: `${path}/${id}`, query, body: null }).status, 204);
  assert.equal(blogCategories({ method: "GET", path: `${path}/${id}`, query, body: null }).status, 404);
});

test("refuses BlogCategory without title", () => {
  assert.equal(blogCategories({ method: "POST", path, query, body: {} }).status, 400);
});
