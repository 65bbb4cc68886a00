import { randomUUID } from "node:crypto";

import type { BlogCategory } from "../models/blog-category.js";
import { checkBlogCategory, parseBlogCategory } from "../validators/blog-category.js";
import type { Answer, Request } from "./index.js";

const entries = new Map<string, BlogCategory>();

/** GET, POST, PUT and DELETE below /blog-categories. */
export function blogCategories(request: Request): Answer {
  const [, , id] = request.path.split("/");
  if (request.method === "GET" && !id) {
    const all = [...entries.values()].filter((entry) => !entry.deletedAt);
    return { status: 200, body: all };
  }
  if (request.method === "POST" && !id) {
    const problems = checkBlogCategory(request.body);
    if (problems.length > 0) return { status: 400, body: { problems } };
    const made: BlogCategory = { ...parseBlogCategory(request.body), id: randomUUID() };
    entries.set(made.id, made);
    return { status: 201, body: made };
  }
  const found = id === undefined ? undefined : entries.get(id);
  if (!found || found.deletedAt) return { status: 404, body: null };
  if (request.method === "GET") return { status: 200, body: found };
  if (request.method === "PUT") {
    const problems = checkBlogCategory(request.body);
    if (problems.length > 0) return { status: 400, body: { problems } };
    const changed: BlogCategory = { ...parseBlogCategory(request.body), id: found.id };
    entries.set(found.id, changed);
    return { status: 200, body: changed };
  }
  if (request.method === "DELETE") {
    found.deletedAt = new Date().toISOString();
    return { status: 204, body: null };
  }
  return { status: 405, body: null };
}
