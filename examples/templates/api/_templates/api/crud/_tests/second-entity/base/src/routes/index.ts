// imports of routes

export interface Request { method: string; path: string; query: URLSearchParams; body: unknown }
export interface Answer { status: number; body: unknown }

const routes: Record<string, (request: Request) => Answer> = {
  // end of routes
};

export function route(request: Request): Answer {
  const handler = routes[request.path.split("/")[1] ?? ""];
  return handler ? handler(request) : { status: 404, body: null };
}
