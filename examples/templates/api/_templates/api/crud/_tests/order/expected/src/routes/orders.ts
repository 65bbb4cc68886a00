import { randomUUID } from "node:crypto";

import type { Order } from "../models/order.js";
import { checkOrder, parseOrder } from "../validators/order.js";
import type { Answer, Request } from "./index.js";

const entries = new Map<string, Order>();
const PAGE = 50;

/** GET, POST, PUT and DELETE below /orders. */
export function orders(request: Request): Answer {
  const [, , id] = request.path.split("/");
  if (request.method === "GET" && !id) {
    const all = [...entries.values()];
    const start = Number(request.query.get("offset") ?? 0);
    return { status: 200, body: { items: all.slice(start, start + PAGE), total: all.length } };
  }
  if (request.method === "POST" && !id) {
    const problems = checkOrder(request.body);
    if (problems.length > 0) return { status: 400, body: { problems } };
    const made: Order = { ...parseOrder(request.body), id: randomUUID() };
    entries.set(made.id, made);
    return { status: 201, body: made };
  }
  const found = id === undefined ? undefined : entries.get(id);
  if (!found) return { status: 404, body: null };
  if (request.method === "GET") return { status: 200, body: found };
  if (request.method === "PUT") {
    const problems = checkOrder(request.body);
    if (problems.length > 0) return { status: 400, body: { problems } };
    const changed: Order = { ...parseOrder(request.body), id: found.id };
    entries.set(found.id, changed);
    return { status: 200, body: changed };
  }
  if (request.method === "DELETE") {
    entries.delete(found.id);
    return { status: 204, body: null };
  }
  return { status: 405, body: null };
}
