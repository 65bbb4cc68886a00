// imports of routes
// unjucks:begin import-order
import { orders } from "./orders.js";
// unjucks:end import-order

export interface Request { method: string; path: string; query: URLSearchParams; body: unknown }
export interface Answer { status: number; body: unknown }

const routes: Record<string, (request: Request) => Answer> = {
  // unjucks:begin route-order
  "orders": orders,
  // unjucks:end route-order
  // end of routes
};

export function route(request: Request): Answer {
  const handler = routes[request.path.split("/")[1] ?? ""];
  return handler ? handler(request) : { status: 404, body: null };
}
