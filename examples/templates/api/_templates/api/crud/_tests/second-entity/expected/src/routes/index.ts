// imports of routes
// unjucks:begin import-blog-category
import { blogCategories } from "./blog-categories.js";
// unjucks:end import-blog-category

export interface Request { method: string; path: string; query: URLSearchParams; body: unknown }
export interface Answer { status: number; body: unknown }

const routes: Record<string, (request: Request) => Answer> = {
  // unjucks:begin route-blog-category
  "blog-categories": blogCategories,
  // unjucks:end route-blog-category
  // end of routes
};

export function route(request: Request): Answer {
  const handler = routes[request.path.split("/")[1] ?? ""];
  return handler ? handler(request) : { status: 404, body: null };
}
